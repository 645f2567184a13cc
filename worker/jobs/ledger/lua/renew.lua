-- prefix, worker, ttl (s), card (JSON), then for each count of its engine: metrics field, count since the worker's start
-- → renews the worker's lease, stores its card, notes that its model is served, raises the metrics, and returns the
-- server's replication id ('' if it cannot be read), which changes when the server restarts or a replica becomes the
-- primary, 1 if an administrator drains the worker, else 0, and the jobs that the worker has claimed
--
-- The worker's name is new at each start. So the metrics never fall, and a repeated call adds nothing. The counts
-- outlive the worker's card, because a frozen worker whose lease has ended may renew it again.
local COUNTED_S = 86400
lease(ARGV[2], ARGV[3])
local card = cjson.decode(ARGV[4])
redis.call('HSET', CARDS, ARGV[2], ARGV[4])
local jobs = redis.call('SMEMBERS', worker_jobs(ARGV[2]))
enter_card(ARGV[2], card, #jobs)
see_model(card.queue)
local counted = P .. ':worker:' .. ARGV[2] .. ':counted'
local fields = {}
for i = 5, #ARGV, 2 do fields[#fields + 1] = ARGV[i] end
if #fields > 0 then
  for i, before in ipairs(redis.call('HMGET', counted, unpack(fields))) do
    local now = ARGV[4 + 2 * i]
    local more = now - (before or 0)
    if more > 0 or not before then -- a count of 0 makes a series, too, as vLLM does
      redis.call('HINCRBY', METRICS, fields[i], string.format('%.0f', more))
      redis.call('HSET', counted, fields[i], now)
    end
  end
  redis.call('EXPIRE', counted, COUNTED_S)
end
local info = redis.pcall('INFO', 'replication')
local server = type(info) == 'string' and string.match(info, 'master_replid:(%w+)') or ''
return { server, redis.call('SISMEMBER', DRAINING, ARGV[2]), jobs }
