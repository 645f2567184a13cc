-- … the five caps of `refusal`, queue, owner → what `refusal` returns for a job without bytes
local queue, owner = unpack(ARGV, 11, 12)
return refusal(queue, owner, { unpack(ARGV, 6, 10) }, 0, 0)
