-- … → place in the queue, from 1, and the estimated wait for its start (s, or ''); nothing unless it waits
local queue, owner = unpack(redis.call('HMGET', RECORD, 'queue', 'owner'))
local place = queue and position(queue, owner)
return place and { place, estimate(queue, place) }
