-- prefix, time, now, retention, '', queue, most → tells the first `most` waiting jobs their places where these
-- have changed, each once a second; far behind a place is told only when it is a twentieth better, or the logs
-- would grow with the square of the queue's length.
local queue, most, now = ARGV[6], tonumber(ARGV[7]), clock()
local version, told = unpack(redis.call('HMGET', fair(queue), 'version', 'told'))
if version == told then return end
local lines, tag, left = {}, nil, 0
local owners = redis.call('ZRANGE', turns(queue), 0, -1, 'WITHSCORES')
for i = 1, #owners, 2 do
  local turn, length = tonumber(owners[i + 1]), redis.call('ZCARD', line(queue, owners[i]))
  lines[#lines + 1] = { owner = owners[i], turn = turn, length = length }
  tag, left = math.min(tag or turn, turn), left + length
end
table.sort(lines, function(a, b) return a.owner < b.owner end)
local place, later = redis.call('ZCARD', called(queue)), false
left = math.min(left, most)
while left > 0 do -- the jobs of one tag after those of another
  for _, it in ipairs(lines) do
    local at = tag - it.turn
    if at >= 0 and at < it.length and left > 0 then
      place, left = place + 1, left - 1
      about(redis.call('ZRANGE', line(queue, it.owner), at, at)[1])
      local last, attempt, when = unpack(redis.call('HMGET', RECORD, 'place', 'attempt', 'told_at'))
      local change = math.abs(place - (last or 0))
      if attempt and change > 0 and (place <= 20 or change >= place / 20) then
        if when and now - when < 1 then
          later = true
        else
          tell(place, attempt)
        end
      end
    end
  end
  tag = tag + 1
end
if not later then redis.call('HSET', fair(queue), 'told', version) end
