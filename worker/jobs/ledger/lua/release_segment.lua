-- … claim, worker, number → frees the segment if the worker has it
local claim, worker, number = unpack(ARGV, 6, 8)
local offer, by = unpack(redis.call('HMGET', segments(), 'claim', number))
if offer == claim and by == worker then redis.call('HDEL', segments(), number) end
