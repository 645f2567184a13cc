-- prefix, name of the lease, name of the caller, duration (ms) → 1 if the caller has the lease now, else 0
local key = P .. ':lease:' .. ARGV[2]
local holder = redis.call('GET', key)
if holder and holder ~= ARGV[3] then return 0 end
redis.call('SET', key, ARGV[3], 'PX', ARGV[4])
return 1
