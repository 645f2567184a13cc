-- … worker, reason, max_attempts → the queue to hint again, or nothing: the job is not this worker's any
-- more, or has ended. The old `seq` keeps the job's place ahead of newer ones. Only lost workers count
-- towards max_attempts; a drain hands the job over in good order.
local worker, reason, max_attempts = ARGV[6], ARGV[7], tonumber(ARGV[8])
local state, owner, queue, attempt, seq, cancel =
  unpack(redis.call('HMGET', RECORD, 'state', 'worker', 'queue', 'attempt', 'seq', 'cancel'))
redis.call('SREM', worker_jobs(worker), ID)
if state ~= 'running' or owner ~= worker then return nil end
detach(queue)
if cancel then
  finish('canceled', queue, attempt, '{}')
  return nil
end
if reason == 'worker_lost' and redis.call('HINCRBY', RECORD, 'lost', 1) >= max_attempts then
  local error = '{"code":"worker_lost","message":"its worker was lost ' .. max_attempts .. ' times"}'
  redis.call('HSET', RECORD, 'error', error)
  finish('failed', queue, attempt, error)
  return nil
end
redis.call('HSET', RECORD, 'state', 'queued')
redis.call('HDEL', RECORD, 'worker', 'device')
redis.call('ZADD', waiting(queue), seq, ID)
emit('requeued', attempt, '{"reason":"' .. reason .. '"}')
return queue
