-- … the five caps of `refusal`, queue, owner, bytes of the job's files
-- → what `refusal` returns for a job of length 1 whose record has no bytes
local queue, owner, file_bytes = unpack(ARGV, 11, 13)
return refusal(queue, owner, 1, { unpack(ARGV, 6, 10) }, 0, file_bytes, true)
