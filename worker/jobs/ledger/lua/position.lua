-- … → the job's position in its queue, from 1, and the estimated seconds until it starts ('' if unknown); nothing
-- if the job does not wait
local queue, owner = unpack(redis.call('HMGET', RECORD, 'queue', 'owner'))
local place = queue and position(queue, owner)
return place and { place, estimate(queue, place) }
