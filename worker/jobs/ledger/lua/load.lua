-- prefix, queue → slots of the queue's ready workers, and the estimated seconds until a job that is submitted now
-- starts ('' if unknown)
local queue = ARGV[2]
return { (slots(queue)), estimate(queue, redis.call('ZCARD', waiting(queue)) + 1) }
