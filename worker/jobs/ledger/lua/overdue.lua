-- prefix → ids of the jobs whose deadline has passed
return redis.call('ZRANGEBYSCORE', DEADLINES, '-inf', clock())
