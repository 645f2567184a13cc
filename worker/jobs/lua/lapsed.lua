-- prefix → workers whose lease has ended
local time = redis.call('TIME')
return redis.call('ZRANGEBYSCORE', ARGV[1] .. ':workers', '-inf', time[1] * 1000 + math.floor(time[2] / 1000))
