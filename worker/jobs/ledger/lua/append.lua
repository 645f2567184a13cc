-- … '', then for each job: id, attempt, first, count of record fields, of events, name, value, …, and of each
-- event type, fields, resume → for each job 'ok', 'cancel' (the client asked for its end), 'stale' (another
-- attempt owns it), or, if it has ended with this, the ids of jobs to hint at, now that its slot is free. One
-- call for many: what all scripts share is set up once, and the free slots are counted once.
-- Only the owner appends, so it knows that its first event is number `first`: if that is in the log, this is
-- a repeat after a lost reply and changes nothing. A terminal event ends the job.
local function append(attempt, first, fields, events, behind)
  local state, current, cancel, queue, logged =
    unpack(redis.call('HMGET', RECORD, 'state', 'attempt', 'cancel', 'queue', 'events'))
  if state ~= 'running' or current ~= attempt then return 'stale' end
  local ahead = logged - (first - 1)
  if ahead < 0 then return 'stale' end -- this Redis has lost events: a new attempt goes on from what it has
  if ahead > 0 then return cancel and 'cancel' or 'ok' end
  for i = fields, events - 1, 2 do redis.call('HSET', RECORD, ARGV[i], ARGV[i + 1]) end
  for i = events, behind - 1, 3 do
    local kind, public, resume = ARGV[i], ARGV[i + 1], ARGV[i + 2]
    if kind == 'succeeded' or kind == 'failed' or kind == 'canceled' then
      detach(queue)
      finish(kind, queue, attempt, public)
      return {}, queue
    end
    emit(kind, attempt, public, resume)
  end
  return cancel and 'cancel' or 'ok'
end

local replies, last, at = {}, {}, 6 -- the last reply to an ending, by queue
while ARGV[at] do
  about(ARGV[at])
  local fields = at + 5
  local events = fields + 2 * ARGV[at + 3]
  local behind = events + 3 * ARGV[at + 4]
  local reply, queue = append(ARGV[at + 1], tonumber(ARGV[at + 2]), fields, events, behind)
  replies[#replies + 1] = reply
  if queue then last[queue] = #replies end
  at = behind
end
for queue, i in pairs(last) do replies[i] = call_all(queue) end
return replies
