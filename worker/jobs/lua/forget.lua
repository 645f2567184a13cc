-- → 1 when forgotten, 0 when the job is not terminal
local state = redis.call('HGET', RECORD, 'state')
if state == 'queued' or state == 'running' then return 0 end
redis.call('DEL', RECORD, LOG)
redis.call('ZREM', P .. ':jobs', ID)
redis.call('ZREM', P .. ':finished', ID)
redis.call('ZREM', P .. ':webhooks', ID)
return 1
