-- prefix, seconds → the queues whose model had a live worker in the last seconds, and those whose model has one now
--
-- A worker of an older version of Stoker notes nothing in `models:seen`. A time in the future is not counted: then
-- the clock was set back.
local now = clock()
local found = redis.call('ZRANGEBYSCORE', P .. ':models:seen', now - ARGV[2], now)
local in_step = redis.call('HLEN', ROOM) == redis.call('HLEN', CARDS)
local workers, live, known = redis.call('HGETALL', in_step and ROOM or CARDS), {}, {}
for i = 1, #workers, 2 do
  local entry = workers[i + 1]
  local queue = in_step and string.match(entry, '^%d+ %d+ (.*)$') or cjson.decode(entry).queue
  if not known[queue] and holds_lease(workers[i]) then
    live[#live + 1], known[queue] = queue, true
  end
end
return { found, live }
