-- … claim, worker, number → 1 if the segment is done, 0 if the worker's work on it does not count any more
local claim, worker, number = unpack(ARGV, 6, 8)
if redis.call('HGET', segments(), 'claim') ~= claim then return 0 end
local by = redis.call('HGET', segments(), number)
if by ~= worker then return by == DONE and 1 or 0 end
redis.call('HSET', segments(), number, DONE)
return 1
