-- prefix, time, now, retention, '', queue, places from which and up to which positions are logged, from 1
-- → logs those positions of these places that have changed; the version of the queue, '1' if some changed too soon after
--   the last event, and '1' if more jobs wait; or nothing if no position has changed since `told`
--
-- A job gets at most one position event a second. Beyond position 20 only a change by a twentieth is logged;
-- otherwise the logs would grow with the square of the queue's length. Dispatched and background jobs get no event.
-- The first call also brings a part of the indexes up to date, see `refresh_index`.
local queue, from, to, now = ARGV[6], tonumber(ARGV[7]), tonumber(ARGV[8]), clock()
if from == 1 then
  refresh_index(queue)
  recount_room()
end
local version, last_position_version = unpack(redis.call('HMGET', sched(queue), 'version', 'told'))
if version == last_position_version then return end

local place, postponed = redis.call('ZCARD', dispatched(queue)), ''

-- Log the position of the job at the index of a flow, if it has changed.
local function broadcast(owner, index)
  local id = redis.call('ZRANGE', flow(queue, owner), index, index)[1]
  if not id then return end -- an older version has changed the flow
  use_job(id)
  local last, attempt, logged_at = unpack(redis.call('HMGET', RECORD, 'place', 'attempt', 'told_at'))
  local change = math.abs(place - (last or 0))
  if not attempt or change == 0 or place > 20 and change < place / 20 then return end
  if logged_at and math.abs(now - logged_at) < 1 then
    postponed = '1'
  else
    emit_position(place, attempt)
  end
end

local flows = {}
for _, it in ipairs(first_flows(queue, to)) do -- the first `to` jobs are in these
  if it.length > 0 then flows[#flows + 1] = it end
end
table.sort(flows, function(a, b) return a.owner < b.owner end)
while #flows > 0 do -- one start tag after the other; each flow has at most one job with this tag
  local tag, left = math.huge, {}
  for _, it in ipairs(flows) do tag = math.min(tag, it.start_tag) end
  for _, it in ipairs(flows) do
    if it.start_tag == tag then
      place = place + 1
      if place > to then return { version, postponed, '1' } end
      it.index = (it.index or -1) + 1
      if place >= from then broadcast(it.owner, it.index) end
      it.start_tag, it.length = tag + 1, it.length - 1
    end
    if it.length > 0 then left[#left + 1] = it end
  end
  flows = left
end
return { version, postponed, '' }
