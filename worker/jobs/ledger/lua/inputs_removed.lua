-- … → notes that the files which the ended job needs no more are removed
--
-- A failed or canceled job keeps its clip and the files of its options, for a retry, as long as its record is kept.
if redis.call('ZREM', INPUTS, ID) == 0 then return end
local owner, inputs, state = unpack(redis.call('HMGET', RECORD, 'owner', 'inputs', 'state'))
if not inputs or state ~= 'succeeded' then return end -- without `inputs` the record has expired
redis.call('HDEL', RECORD, 'inputs')
local bytes = redis.call('HGET', file_account(owner), ID)
if bytes then enter(owner, file_account(owner), bytes - inputs) end -- an evicted job has no entry
