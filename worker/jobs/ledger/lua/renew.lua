-- prefix, worker, ttl (s), card (JSON) → renews the worker's lease, stores its card, notes that its model is served,
-- and returns the server's replication id ('' if it cannot be read), which changes when the server restarts or a
-- replica becomes the primary, and 1 if an administrator drains the worker, else 0
lease(ARGV[2], ARGV[3])
redis.call('HSET', P .. ':worker:cards', ARGV[2], ARGV[4])
see_model(cjson.decode(ARGV[4]).queue)
local info = redis.pcall('INFO', 'replication')
local server = type(info) == 'string' and string.match(info, 'master_replid:(%w+)') or ''
return { server, redis.call('SISMEMBER', DRAINING, ARGV[2]) }
