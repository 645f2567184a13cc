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

-- Return the flows that have a job with this start tag, ordered by owner: those that had one with the tag before, and those
-- that begin with this one, from the index on. Return the index of the next one that has not begun.
local function flows_at(tag, going, index)
  local due, i = {}, 1
  while true do
    local old, new = going[i], flows[index]
    if new and new.start_tag == tag and not (old and old.owner < new.owner) then
      due[#due + 1], index = new, index + 1
    elseif old then
      due[#due + 1], i = old, i + 1
    else
      return due, index
    end
  end
end

local tag, going, index = nil, {}, 1
while #going > 0 or flows[index] do -- one start tag after the other; each flow has at most one job with this tag
  tag = #going > 0 and tag + 1 or flows[index].start_tag
  local due
  due, index = flows_at(tag, going, index)
  going = {}
  for _, it in ipairs(due) do
    place = place + 1
    if place > to then return { version, postponed, '1' } end
    it.told = (it.told or -1) + 1
    if place >= from then broadcast(it.owner, it.told) end
    if it.told + 1 < it.length then going[#going + 1] = it end
  end
end
return { version, postponed, '' }
