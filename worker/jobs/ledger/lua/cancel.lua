-- … grace (s) → the state afterwards: a waiting job ends here, a running one is told with its next append,
-- and ends without its worker if that does not hear within the grace
local state, queue, attempt, owner = unpack(redis.call('HMGET', RECORD, 'state', 'queue', 'attempt', 'owner'))
if state == 'queued' then
  leave(queue, owner)
  finish('canceled', queue, attempt, '{}')
  return 'canceled'
end
if state == 'running' and redis.call('HSETNX', RECORD, 'cancel', 1) == 1 then
  redis.call('ZADD', DEADLINES, 'LT', clock() + ARGV[6], ID)
end
return state
