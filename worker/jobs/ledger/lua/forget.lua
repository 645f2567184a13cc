-- → 1 when forgotten, 0 when the job is not terminal
local state, owner, once = unpack(redis.call('HMGET', RECORD, 'state', 'owner', 'once'))
if state == 'queued' or state == 'running' then return 0 end
redis.call('DEL', RECORD, LOG)
if once then redis.call('DEL', once) end
if owner then redis.call('ZREM', P .. ':owner:' .. owner .. ':jobs', ID) end
redis.call('ZREM', P .. ':jobs', ID)
redis.call('ZREM', P .. ':finished', ID)
redis.call('ZREM', P .. ':webhooks', ID)
return 1
