-- prefix, seconds → the queues whose model has a live worker, or had one in the last seconds
--
-- A worker of an older version of Stoker notes nothing in `models:seen`. A time in the future is not counted: then
-- the clock was set back.
local now = clock()
local found = redis.call('ZRANGEBYSCORE', P .. ':models:seen', now - ARGV[2], now)
local cards = redis.call('HGETALL', P .. ':worker:cards')
for i = 1, #cards, 2 do
  if holds_lease(cards[i]) then found[#found + 1] = cjson.decode(cards[i + 1]).queue end
end
return found
