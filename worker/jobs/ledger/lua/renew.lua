-- prefix, worker, ttl (s), card (JSON)
lease(ARGV[2], ARGV[3])
redis.call('HSET', P .. ':worker:cards', ARGV[2], ARGV[4])
