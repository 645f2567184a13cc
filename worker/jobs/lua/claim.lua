-- … worker, device → the record, or nothing when the job is not waiting (a duplicate hint, a cancel)
local worker, device = ARGV[6], ARGV[7]
if redis.call('HGET', RECORD, 'state') ~= 'queued' then return nil end
local queue = redis.call('HGET', RECORD, 'queue')
local attempt = redis.call('HINCRBY', RECORD, 'attempt', 1)
redis.call('HSET', RECORD, 'state', 'running', 'worker', worker, 'device', device)
redis.call('HSETNX', RECORD, 'started_at', NOW)
redis.call('ZREM', waiting(queue), ID)
redis.call('SADD', running(queue), ID)
redis.call('SADD', worker_jobs(worker), ID)
emit('started', attempt, '{"worker":' .. cjson.encode(worker) .. ',"device":' .. cjson.encode(device) .. '}')
return redis.call('HGETALL', RECORD)
