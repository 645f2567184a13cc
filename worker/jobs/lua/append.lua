-- … attempt, first, count of record fields, name, value, …, then per event: type, fields, resume
-- → 'ok', 'cancel' (the client asked for the job's end) or 'stale' (another attempt owns the job).
-- Only the owner appends, so it knows that its first event is number `first`: if that is in the log, this is
-- a repeat after a lost reply and changes nothing. A terminal event ends the job.
local attempt, first = ARGV[6], tonumber(ARGV[7])
local state, current, cancel, queue, logged =
  unpack(redis.call('HMGET', RECORD, 'state', 'attempt', 'cancel', 'queue', 'events'))
if state ~= 'running' or current ~= attempt then return 'stale' end
local ahead = logged - (first - 1)
if ahead < 0 then return 'stale' end -- this Redis has lost events: a new attempt goes on from what it has
if ahead > 0 then return cancel and 'cancel' or 'ok' end
local last = 8 + 2 * tonumber(ARGV[8])
for i = 9, last, 2 do redis.call('HSET', RECORD, ARGV[i], ARGV[i + 1]) end
for i = last + 1, #ARGV, 3 do
  local kind, fields, resume = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  if kind == 'succeeded' or kind == 'failed' or kind == 'canceled' then
    detach(queue)
    finish(kind, queue, attempt, fields)
    return 'ok'
  end
  emit(kind, attempt, fields, resume)
end
return cancel and 'cancel' or 'ok'
