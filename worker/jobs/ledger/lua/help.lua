-- prefix, queue, worker, max_attempts, job to go on with (or ''), count of its segments that the worker has, these, and
-- the jobs that the worker does not help with
-- → for an idle worker: the id of a running job, its claim, the number of a segment to compute, and the plan; or nothing
--
-- Waiting jobs go first: nobody gets a segment while one waits. Nor does a worker without a lease. A job on its last
-- attempt gets no help, because it may kill the helper, and the next job of the helper with it.
local queue, worker, max_attempts, only, holds = unpack(ARGV, 2, 6)
if is_paused(queue) or redis.call('ZCARD', waiting(queue)) > 0 or not holds_lease(worker) then return nil end
local refused = {}
for i = 7 + holds, #ARGV do refused[ARGV[i]] = true end
for _, id in ipairs(only == '' and redis.call('SMEMBERS', offered(queue)) or { only }) do
  use_job(id)
  local state, claim, cancel, owner, lost =
    unpack(redis.call('HMGET', RECORD, 'state', 'claim', 'cancel', 'worker', 'lost'))
  local is_last_attempt = lost and tonumber(lost) >= tonumber(max_attempts) - 1
  local offer, plan = unpack(redis.call('HMGET', segments(), 'claim', 'plan'))
  if state ~= 'running' or offer ~= claim then
    withdraw_segments(queue) -- this Redis has lost a part of the data
  elseif not cancel and not is_last_attempt and owner ~= worker and not refused[id] then
    local number = take_segment(worker, numbers(7, holds), false)
    if number then return { id, claim, number, plan } end
  end
end
