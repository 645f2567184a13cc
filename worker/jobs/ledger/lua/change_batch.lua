-- prefix, batch id, status, then fields (name, value), among them the new status
-- → 1 if the batch had this status and is changed, else 0
local key = P .. ':batch:' .. ARGV[2]
if redis.call('HGET', key, 'status') ~= ARGV[3] then return 0 end
redis.call('HSET', key, unpack(ARGV, 4))
return 1
