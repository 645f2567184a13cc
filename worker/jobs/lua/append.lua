-- … '', then for each job: id, attempt, first, count of record fields, of events, name, value, …, and of each
-- event type, fields, resume → for each job 'ok', 'cancel' (the client asked for its end) or 'stale' (another
-- attempt owns it). One call for many: what all scripts share is set up once.
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
      return 'ok'
    end
    emit(kind, attempt, public, resume)
  end
  return cancel and 'cancel' or 'ok'
end

local replies, at = {}, 6
while ARGV[at] do
  about(ARGV[at])
  local fields = at + 5
  local events = fields + 2 * ARGV[at + 3]
  local behind = events + 3 * ARGV[at + 4]
  replies[#replies + 1] = append(ARGV[at + 1], tonumber(ARGV[at + 2]), fields, events, behind)
  at = behind
end
return replies
