-- … '', count of metrics fields, these fields, then for each job: id, name of the claim, attempt, number of its first
-- event, time of its events (RFC 3339, and s since the epoch), count of record fields, count of events, increments of
-- metrics ("number amount number amount …", the numbers of the metrics fields from 1), the record fields (name, value),
-- and the events (type, fields, resume)
-- → for each job one reply:
--     'ok'      the events are logged
--     'cancel'  the same, and the client has asked to cancel the job
--     'stale'   nothing was logged: another attempt owns the job, or it has ended
--     a number  nothing was logged: this Redis has lost events, and this is the number of the last one that it has
--     'unclaimed'  nothing was logged: this Redis has lost the claim of the attempt, and the job waits
--     a list    the events have ended the job: its queue, and the jobs that are dispatched now that its slot is free
--
-- One call serves many jobs, because the shared part is set up once and free slots are counted once for a queue.
-- Only its owner appends to a job, so the owner knows the number of its first event. If the log has an event of
-- that number, this is a repeat after a lost reply, and it changes nothing. If the log has fewer events than that,
-- a failover has lost some, and the worker must offer them again. Two attempts can have the same number then, so the
-- name of the claim tells them apart. The increments count with the events, so they count once, too. Those of all jobs
-- are added up first, because the jobs of one model have the same metrics.
local sums = {} -- number of the metrics field -> increment

local function append(claim, attempt, first, increments, fields, events, stop)
  local state, owner, current, cancel, queue, logged =
    unpack(redis.call('HMGET', RECORD, 'state', 'claim', 'attempt', 'cancel', 'queue', 'events'))
  if state == 'queued' and tonumber(current) == attempt - 1 then return 'unclaimed' end
  if not state or owner ~= claim then return 'stale' end
  local ahead = logged - (first - 1)
  if state ~= 'running' then
    local repeated = stop > events and ARGV[stop - 3] == state and ahead == (stop - events) / 3
    return repeated and { queue } or 'stale'
  end
  if ahead < 0 then return tonumber(logged) end
  if ahead > 0 then return cancel and 'cancel' or 'ok' end
  if stop > events then
    for number, amount in string.gmatch(increments, '(%S+) (%S+)') do sums[number] = (sums[number] or 0) + amount end
  end
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

local replies, last, at = {}, {}, 7 + ARGV[6] -- `last`: queue -> index of the last reply that ended one of its jobs
while ARGV[at] do
  use_job(ARGV[at])
  TIME, NOW = ARGV[at + 4], ARGV[at + 5]
  local fields = at + 9
  local events = fields + 2 * ARGV[at + 6]
  local stop = events + 3 * ARGV[at + 7]
  local reply, queue =
    append(ARGV[at + 1], tonumber(ARGV[at + 2]), tonumber(ARGV[at + 3]), ARGV[at + 8], fields, events, stop)
  replies[#replies + 1] = reply
  if queue then last[queue] = #replies end
  at = stop
end
for number, amount in pairs(sums) do
  redis.call('HINCRBY', METRICS, ARGV[6 + number], string.format('%.0f', amount))
end
for queue, i in pairs(last) do replies[i] = { queue, unpack(dispatch_all(queue)) } end
return replies
