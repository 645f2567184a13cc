-- prefix, seconds → the queues whose model had a live worker in the last seconds, and those whose model has one now
--
-- A worker of an older version of Stoker notes nothing in `models:seen`. A time in the future is not counted: then
-- the clock was set back.
local now = clock()
local live, found = {}, redis.call('ZRANGEBYSCORE', P .. ':models:seen', now - ARGV[2], now)
local cards = redis.call('HGETALL', P .. ':worker:cards')
for i = 1, #cards, 2 do
  if holds_lease(cards[i]) then live[#live + 1] = cjson.decode(cards[i + 1]).queue end
end
return { found, live }
