-- prefix, time, now, retention, '', queue, most → tells the first `most` waiting jobs their places where these
-- have changed; far behind a place is told only when it is a twentieth better, or the logs would grow with the
-- square of the queue's length. → how many were told
local queue, most = ARGV[6], tonumber(ARGV[7])
local version, told = unpack(redis.call('HMGET', fair(queue), 'version', 'told'))
if version == told then return 0 end
redis.call('HSET', fair(queue), 'told', version)
local order = {}
local lines = redis.call('ZRANGE', turns(queue), 0, -1, 'WITHSCORES')
for i = 1, #lines, 2 do
  for j, id in ipairs(redis.call('ZRANGE', line(queue, lines[i]), 0, most - 1)) do
    order[#order + 1] = { lines[i + 1] + j, lines[i], id }
  end
end
table.sort(order, function(a, b)
  if a[1] ~= b[1] then return a[1] < b[1] end
  return a[2] < b[2]
end)
local first, count = redis.call('ZCARD', called(queue)), 0
for i = 1, math.min(#order, most) do
  local place = first + i
  about(order[i][3])
  local last, attempt = unpack(redis.call('HMGET', RECORD, 'place', 'attempt'))
  local change = math.abs(place - (last or 0))
  if attempt and change > 0 and (place <= 20 or change >= place / 20) then
    redis.call('HSET', RECORD, 'place', place)
    emit('queued', attempt, '{"position":' .. place .. '}')
    count = count + 1
  end
end
return count
