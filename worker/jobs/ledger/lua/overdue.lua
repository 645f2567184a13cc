-- prefix, count → ids of so many jobs whose deadline has passed
return redis.call('ZRANGEBYSCORE', DEADLINES, '-inf', clock(), 'LIMIT', 0, ARGV[2])
