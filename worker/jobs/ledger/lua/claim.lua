-- … worker, device, claim (unique to this call), lease ttl (s), max_attempts, alone ('1' or '')
-- → the record; 'alone' when the job's last attempt must have a worker to itself; or nothing when it is not
-- waiting (a duplicate hint, a cancel, its time is up). Repeated after a lost reply, it answers the same.
-- A claim renews its worker's lease: no job ever runs under none.
local worker, device, claim, ttl, max_attempts, alone = unpack(ARGV, 6, 11)
local state, queue, owner, lost, held, timeout =
  unpack(redis.call('HMGET', RECORD, 'state', 'queue', 'owner', 'lost', 'claim', 'timeout_s'))
if state == 'running' and held == claim then return redis.call('HGETALL', RECORD) end
if state ~= 'queued' or expire() then return nil end
lease(worker, ttl)
if lost and tonumber(lost) >= tonumber(max_attempts) - 1 and alone == '' then
  local apart = redis.call('HGET', RECORD, 'apart') -- who already waits to be alone with it
  if apart and apart ~= worker and holds_lease(apart) then return nil end
  redis.call('HSET', RECORD, 'apart', worker)
  return 'alone'
end
local attempt = redis.call('HINCRBY', RECORD, 'attempt', 1)
redis.call('HSET', RECORD, 'state', 'running', 'worker', worker, 'device', device, 'claim', claim)
if redis.call('HSETNX', RECORD, 'started_at', NOW) == 1 then
  redis.call('ZADD', DEADLINES, clock() + (timeout or 3600), ID)
end
redis.call('HDEL', RECORD, 'apart')
if redis.call('ZSCORE', line(queue, owner), ID) then take_turn(queue, owner) end -- by a hint too many
leave(queue, owner)
redis.call('SADD', active(owner), ID)
redis.call('SADD', running(queue), ID)
redis.call('SADD', worker_jobs(worker), ID)
emit('started', attempt, '{"worker":' .. cjson.encode(worker) .. ',"device":' .. cjson.encode(device) .. '}')
return redis.call('HGETALL', RECORD)
