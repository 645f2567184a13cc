-- → 1 when forgotten, 0 when the job is not terminal
local state, owner, once = unpack(redis.call('HMGET', RECORD, 'state', 'owner', 'once'))
if state == 'queued' or state == 'running' then return 0 end
redis.call('DEL', RECORD, LOG)
if once then redis.call('DEL', once) end
redis.call('ZREM', P .. ':owner:' .. (owner or ARGV[6]) .. ':jobs', ID)
redis.call('ZREM', P .. ':jobs', ID)
redis.call('ZREM', P .. ':finished', ID)
return 1
