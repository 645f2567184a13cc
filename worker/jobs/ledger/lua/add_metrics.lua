-- prefix, name of the process, number of this call, then for each metrics field: field, increment
-- → adds the increments. A repeated call, which has the number of the last one, changes nothing.
local calls = P .. ':metrics:calls:' .. ARGV[2]
if tonumber(redis.call('GET', calls) or 0) >= tonumber(ARGV[3]) then return end
redis.call('SET', calls, ARGV[3], 'EX', 86400)
for i = 4, #ARGV, 2 do redis.call('HINCRBY', METRICS, ARGV[i], ARGV[i + 1]) end
