-- → the state afterwards: a waiting job ends here, a running one is told with its next append
local state, queue, attempt = unpack(redis.call('HMGET', RECORD, 'state', 'queue', 'attempt'))
if state == 'queued' then
  redis.call('ZREM', waiting(queue), ID)
  finish('canceled', queue, attempt, '{}')
  return 'canceled'
end
if state == 'running' then redis.call('HSET', RECORD, 'cancel', 1) end
return state
