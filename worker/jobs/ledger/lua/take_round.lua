-- prefix, task, interval (ms) → 1 if the caller may take a round of the task, 0 if one was taken in the interval
--
-- A key that expires later than that was written before the clock of Redis was set back.
local key, interval = P .. ':recovery:' .. ARGV[2], tonumber(ARGV[3])
local left = redis.call('PTTL', key)
if left >= 0 and left <= interval then return 0 end
redis.call('SET', key, '1', 'PX', interval)
return 1
