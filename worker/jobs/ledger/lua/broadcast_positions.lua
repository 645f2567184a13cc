-- prefix, time, now, retention, '', queue, count → logs the positions of the first `count` waiting jobs that have
-- changed.
--
-- A job gets at most one position event a second. Beyond position 20 only a change by a twentieth is logged;
-- otherwise the logs would grow with the square of the queue's length. Dispatched and background jobs get no event.
local queue, count, now = ARGV[6], tonumber(ARGV[7]), clock()
local version, last_position_version = unpack(redis.call('HMGET', sched(queue), 'version', 'told'))
if version == last_position_version then return end
local flows, tag, left = {}, nil, 0
local owners = redis.call('ZRANGE', start_tags(queue), 0, -1, 'WITHSCORES')
for i = 1, #owners, 2 do
  local start_tag, length = tonumber(owners[i + 1]), foreground(queue, owners[i])
  if length > 0 then
    flows[#flows + 1] = { owner = owners[i], start_tag = start_tag, length = length }
    tag, left = math.min(tag or start_tag, start_tag), left + length
  end
end
table.sort(flows, function(a, b) return a.owner < b.owner end)
local place, postponed = redis.call('ZCARD', dispatched(queue)), false
left = math.min(left, count)
while left > 0 do -- one start tag after the other; each flow has at most one job with this tag
  for _, it in ipairs(flows) do
    local index = tag - it.start_tag
    if index >= 0 and index < it.length and left > 0 then
      place, left = place + 1, left - 1
      use_job(redis.call('ZRANGE', flow(queue, it.owner), index, index)[1])
      local last, attempt, logged_at = unpack(redis.call('HMGET', RECORD, 'place', 'attempt', 'told_at'))
      local change = math.abs(place - (last or 0))
      if attempt and change > 0 and (place <= 20 or change >= place / 20) then
        if logged_at and math.abs(now - logged_at) < 1 then
          postponed = true
        else
          emit_position(place, attempt)
        end
      end
    end
  end
  tag = tag + 1
end
if not postponed then redis.call('HSET', sched(queue), 'told', version) end
