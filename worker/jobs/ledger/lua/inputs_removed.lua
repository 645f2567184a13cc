-- … → notes that the clip and the work files of the ended job are removed
if redis.call('ZREM', INPUTS, ID) == 0 then return end
local owner, inputs = unpack(redis.call('HMGET', RECORD, 'owner', 'inputs'))
if not inputs then return end -- the record has expired
redis.call('HDEL', RECORD, 'inputs')
local bytes = redis.call('HGET', file_account(owner), ID)
if bytes then enter(owner, file_account(owner), bytes - inputs) end -- an evicted job has no entry
