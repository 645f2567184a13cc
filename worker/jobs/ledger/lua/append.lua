-- … '', then for each job: id, attempt, number of its first event, count of record fields, count of events, the
-- fields (name, value), and the events (type, fields, resume)
-- → for each job one reply:
--     'ok'      the events are logged
--     'cancel'  the same, and the client has asked to cancel the job
--     'stale'   nothing was logged: another attempt owns the job, or it has ended
--     a list    the events have ended the job: its queue, and the jobs that are dispatched now that its slot is free
--
-- One call serves many jobs, because the shared part is set up once and free slots are counted once for a queue.
-- Only its owner appends to a job, so the owner knows the number of its first event. If the log has an event of
-- that number, this is a repeat after a lost reply, and it changes nothing.
local function append(attempt, first, fields, events, stop)
  local state, current, cancel, queue, logged =
    unpack(redis.call('HMGET', RECORD, 'state', 'attempt', 'cancel', 'queue', 'events'))
  if state ~= 'running' or current ~= attempt then return 'stale' end
  local ahead = logged - (first - 1)
  if ahead < 0 then return 'stale' end -- this Redis has lost events; a new attempt continues from what is left
  if ahead > 0 then return cancel and 'cancel' or 'ok' end
  for i = fields, events - 1, 2 do redis.call('HSET', RECORD, ARGV[i], ARGV[i + 1]) end
  for i = events, stop - 1, 3 do
    local kind, public, resume = ARGV[i], ARGV[i + 1], ARGV[i + 2]
    if kind == 'succeeded' or kind == 'failed' or kind == 'canceled' then
      detach(queue)
      finish(kind, queue, attempt, public)
      return { queue }, queue
    end
    emit(kind, attempt, public, resume)
  end
  return cancel and 'cancel' or 'ok'
end

local replies, last, at = {}, {}, 6 -- `last`: queue -> index of the last reply that ended one of its jobs
while ARGV[at] do
  use_job(ARGV[at])
  local fields = at + 5
  local events = fields + 2 * ARGV[at + 3]
  local stop = events + 3 * ARGV[at + 4]
  local reply, queue = append(ARGV[at + 1], tonumber(ARGV[at + 2]), fields, events, stop)
  replies[#replies + 1] = reply
  if queue then last[queue] = #replies end
  at = stop
end
for queue, i in pairs(last) do replies[i] = { queue, unpack(dispatch_all(queue)) } end
return replies
