-- prefix → jobs whose time is up
return redis.call('ZRANGEBYSCORE', DEADLINES, '-inf', clock())
