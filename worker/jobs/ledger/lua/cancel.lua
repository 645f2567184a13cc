-- … grace (s) → the state afterwards, or nothing if there is no such job
--
-- A waiting job ends here, and its slot goes to the next one if it was dispatched. The worker of a running job reads the request in the reply to its next append. If the
-- job has not ended after the grace, it ends without its worker.
local state, queue, attempt, owner = unpack(redis.call('HMGET', RECORD, 'state', 'queue', 'attempt', 'owner'))
if state == 'queued' then
  local was_dispatched = remove_waiting(queue, owner)
  finish('canceled', queue, attempt, '{}')
  if was_dispatched then dispatch_all(queue) end
  return 'canceled'
end
if state == 'running' and redis.call('HSETNX', RECORD, 'cancel', 1) == 1 then
  redis.call('ZADD', DEADLINES, 'LT', clock() + ARGV[6], ID)
end
return state
