-- prefix, queue → slots of its ready workers, and the estimated wait of a job sent now (s, or '')
local queue = ARGV[2]
return { (slots(queue)), estimate(queue, redis.call('ZCARD', waiting(queue)) + 1) }
