-- prefix, worker, ttl (s), card (JSON) → renews the worker's lease and stores its card
lease(ARGV[2], ARGV[3])
redis.call('HSET', P .. ':worker:cards', ARGV[2], ARGV[4])
