-- … claim, worker, plan (JSON), count of segments, first segment whose events are not logged, '1' to steal or '',
-- and the segments that the owner computes or has
-- → for the owner: the number of a segment to compute, or -1, and those that are done; nothing if the attempt is over
--
-- The first call offers the segments. So does one after a failover of Redis that has lost the offer.
local EXPIRY_S = 86400 -- an older version of Stoker ends jobs without their segments
local claim, worker, plan, count, first, steal = unpack(ARGV, 6, 11)
local held = numbers(12, #ARGV - 11)
local state, current, queue = unpack(redis.call('HMGET', RECORD, 'state', 'claim', 'queue'))
if state ~= 'running' or current ~= claim then return nil end
if redis.call('HGET', segments(), 'claim') ~= claim then
  redis.call('DEL', segments())
  redis.call('HSET', segments(), 'claim', claim, 'plan', plan, 'count', count)
  for number in pairs(held) do redis.call('HSET', segments(), number, worker) end
  redis.call('SADD', offered(queue), ID)
  announce('segments:' .. queue)
end
redis.call('HSET', segments(), 'first', first)
redis.call('EXPIRE', segments(), EXPIRY_S)
local reply = { take_segment(worker, held, steal == '1') or -1 }
for number, by in pairs(assignments()) do
  if number < tonumber(first) then
    redis.call('HDEL', segments(), number)
  elseif by == DONE then
    reply[#reply + 1] = number
  end
end
return reply
