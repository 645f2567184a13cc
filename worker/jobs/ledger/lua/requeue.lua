-- … worker, reason, max_attempts, claim (or ''), end of the worker's lease (or '')
-- → the job's queue if the job went back to its front, else nothing. The worker's slot goes to the next job.
--
-- Nothing happens if this worker (or claim) does not have the job any more, or if the worker has
-- renewed its lease since it had this end. A job with a cancel request ends as canceled. A job that has lost
-- max_attempts workers fails. The reasons 'drain' and 'redis_lost' do not count: neither can be the job's fault.

-- Note since when, and why, the log of the job in hand has had no new part of its result: for the metrics of the next
-- attempt. If the lost attempt has added none, the silence began with an earlier one.
local function note_silence(reason)
  local last = redis.call('XREVRANGE', LOG, '+', '-', 'COUNT', 1)[1]
  local kind, time = string.match(last and last[2][2] or '', '"type":"([^"]+)".-"time":"([^"]+)"')
  if not time or kind == 'started' and redis.call('HEXISTS', RECORD, 'silent') == 1 then return end
  redis.call('HSET', RECORD, 'silent', reason .. ' ' .. time)
end

local worker, reason, max_attempts, only_claim, lease_end = ARGV[6], ARGV[7], tonumber(ARGV[8]), ARGV[9], ARGV[10]
local state, holder, queue, attempt, seq, cancel, owner, claim =
  unpack(redis.call('HMGET', RECORD, 'state', 'worker', 'queue', 'attempt', 'seq', 'cancel', 'owner', 'claim'))

-- Take the job from the worker. Return whether it waits again.
local function take_back()
  leave(worker_jobs(worker), ID)
  update_room(worker)
  if state ~= 'running' or holder ~= worker then return false end
  detach(queue)
  if cancel then
    finish('canceled', queue, attempt, '{}')
    return false
  end
  local counts = reason ~= 'drain' and reason ~= 'redis_lost'
  if counts and redis.call('HINCRBY', RECORD, 'lost', 1) >= max_attempts then
    fail('worker_lost', 'its worker was lost ' .. max_attempts .. ' times', queue, attempt)
    return false
  end
  note_silence(reason)
  redis.call('HSET', RECORD, 'state', 'queued', 'waits_since', NOW)
  redis.call('HDEL', RECORD, 'worker', 'device')
  add_waiting(queue, owner, nil, seq, true)
  count('stoker_requeues_total', queue, reason)
  emit('requeued', attempt, '{"reason":"' .. reason .. '"}')
  return true
end

if renewed_since(worker, lease_end) then return nil end
if only_claim ~= '' and only_claim ~= claim then return nil end -- the request was on its way for too long
local waits = take_back()
if queue then dispatch_all(queue) end
return waits and queue or nil
