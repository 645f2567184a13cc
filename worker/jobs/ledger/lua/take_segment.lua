-- … claim, worker, plan (JSON), count of segments, first segment whose events are not logged, '1' to steal or '',
-- count of segments that the worker has, these, and the segments that are done
-- → for the owner: the number of a segment to compute, or -1, and those that are done; nothing if the attempt is over
--
-- The first call offers the segments. So does one after a failover of Redis that has lost the offer.
local claim, worker, plan, count, first, steal, holds = unpack(ARGV, 6, 12)
local state, current, queue = unpack(redis.call('HMGET', RECORD, 'state', 'claim', 'queue'))
if state ~= 'running' or current ~= claim then return nil end
if redis.call('HGET', segments(), 'claim') ~= claim then
  redis.call('DEL', segments())
  redis.call('HSET', segments(), 'claim', claim, 'plan', plan, 'count', count)
  for i = 13 + holds, #ARGV do redis.call('HSET', segments(), ARGV[i], DONE) end
  for number in pairs(numbers(13, holds)) do redis.call('HSET', segments(), number, worker) end
  redis.call('SADD', offered(queue), ID)
end
for number = tonumber(redis.call('HGET', segments(), 'first') or 0), first - 1 do
  redis.call('HDEL', segments(), number)
end
redis.call('HSET', segments(), 'first', first)
local reply = { take_segment(worker, numbers(13, holds), steal == '1') or -1 }
for number = tonumber(first), count - 1 do
  if redis.call('HGET', segments(), number) == DONE then reply[#reply + 1] = number end
end
return reply
