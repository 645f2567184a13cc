-- prefix, worker, ttl (ms), card (JSON): the lease ends `ttl` after now, by Redis' own clock
local time = redis.call('TIME')
local deadline = time[1] * 1000 + math.floor(time[2] / 1000) + tonumber(ARGV[3])
redis.call('ZADD', ARGV[1] .. ':workers', deadline, ARGV[2])
redis.call('HSET', ARGV[1] .. ':worker:cards', ARGV[2], ARGV[4])
