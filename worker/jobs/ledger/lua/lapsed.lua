-- prefix → names of the workers whose lease has ended
return redis.call('ZRANGEBYSCORE', WORKERS, '-inf', clock())
