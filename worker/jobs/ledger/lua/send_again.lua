-- … → 1 if the message of the job was pushed again, 0 if there is no such job
local queue = redis.call('HGET', RECORD, 'queue')
if not queue then return 0 end
push_message(queue, ID)
return 1
