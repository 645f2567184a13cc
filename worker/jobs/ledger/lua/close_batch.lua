-- prefix, batch id, seconds → keeps only the description of the ended batch, and for so long
local key = P .. ':batch:' .. ARGV[2]
redis.call('DEL', key .. ':done', key .. ':parts')
redis.call('ZREM', P .. ':batches', ARGV[2])
redis.call('EXPIRE', key, ARGV[3])
