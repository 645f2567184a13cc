-- … worker, device, claim → the record, or nothing when the job is not waiting (a duplicate hint, a
-- cancel). `claim` is unique to the call, so that a retry after a lost reply gets the job it already has.
local worker, device, claim = ARGV[6], ARGV[7], ARGV[8]
local state, owned = unpack(redis.call('HMGET', RECORD, 'state', 'claim'))
if state == 'running' and owned == claim then return redis.call('HGETALL', RECORD) end
if state ~= 'queued' then return nil end
local queue = redis.call('HGET', RECORD, 'queue')
local attempt = redis.call('HINCRBY', RECORD, 'attempt', 1)
redis.call('HSET', RECORD, 'state', 'running', 'worker', worker, 'device', device, 'claim', claim)
redis.call('HSETNX', RECORD, 'started_at', NOW)
redis.call('ZREM', waiting(queue), ID)
redis.call('SADD', running(queue), ID)
redis.call('SADD', worker_jobs(worker), ID)
emit('started', attempt, '{"worker":' .. cjson.encode(worker) .. ',"device":' .. cjson.encode(device) .. '}')
return redis.call('HGETALL', RECORD)
