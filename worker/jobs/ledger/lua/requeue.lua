-- … worker, reason, max_attempts, attempt (or '') → its queue, or nothing: the job is not this worker's any
-- more, or has ended; or the worker is said to be lost and holds its lease after all. It goes back to the
-- front of its queue. A drain hands the job over in good order and does not count towards
-- max_attempts.
local worker, reason, max_attempts, meant = ARGV[6], ARGV[7], tonumber(ARGV[8]), ARGV[9]
local state, holder, queue, attempt, seq, cancel, owner =
  unpack(redis.call('HMGET', RECORD, 'state', 'worker', 'queue', 'attempt', 'seq', 'cancel', 'owner'))
if reason == 'worker_lost' and holds_lease(worker) then return nil end
if meant ~= '' and meant ~= attempt then return nil end -- a request that was on its way for too long
redis.call('SREM', worker_jobs(worker), ID)
if state ~= 'running' or holder ~= worker then return nil end
detach(queue)
if cancel then
  finish('canceled', queue, attempt, '{}')
  return nil
end
if reason ~= 'drain' and redis.call('HINCRBY', RECORD, 'lost', 1) >= max_attempts then
  fail('worker_lost', 'its worker was lost ' .. max_attempts .. ' times', queue, attempt)
  return nil
end
redis.call('HSET', RECORD, 'state', 'queued')
redis.call('HDEL', RECORD, 'worker', 'device')
enqueue(queue, owner, nil, seq, true)
emit('requeued', attempt, '{"reason":"' .. reason .. '"}')
return queue
