-- … → 1 if the job was deleted, 0 if it has not ended. The caller has removed the job's files.
local state = redis.call('HGET', RECORD, 'state')
if state == 'queued' or state == 'running' then return 0 end
erase()
return 1
