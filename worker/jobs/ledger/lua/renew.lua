-- prefix, worker, ttl (s), card (JSON), then for each count of its engine: metrics field, count since the worker's start
-- → renews the worker's lease, stores its card, notes that its model is served, raises the metrics, and returns the
-- server's replication id ('' if it cannot be read), which changes when the server restarts or a replica becomes the
-- primary, and 1 if an administrator drains the worker, else 0
--
-- The worker's name is new at each start. So the metrics never fall, and a repeated call adds nothing. The counts
-- outlive the worker's card, because a frozen worker whose lease has ended may renew it again.
local COUNTED_S = 86400
lease(ARGV[2], ARGV[3])
redis.call('HSET', P .. ':worker:cards', ARGV[2], ARGV[4])
see_model(cjson.decode(ARGV[4]).queue)
local counted = P .. ':worker:' .. ARGV[2] .. ':counted'
for i = 5, #ARGV, 2 do
  local before = redis.call('HGET', counted, ARGV[i])
  local more = ARGV[i + 1] - (before or 0)
  if more > 0 or not before then -- a count of 0 makes a series, too, as vLLM does
    redis.call('HINCRBY', METRICS, ARGV[i], string.format('%.0f', more))
    redis.call('HSET', counted, ARGV[i], ARGV[i + 1])
  end
end
redis.call('EXPIRE', counted, COUNTED_S)
local info = redis.pcall('INFO', 'replication')
local server = type(info) == 'string' and string.match(info, 'master_replid:(%w+)') or ''
return { server, redis.call('SISMEMBER', DRAINING, ARGV[2]) }
