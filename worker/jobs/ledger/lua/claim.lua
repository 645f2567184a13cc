-- … worker, device, claim (unique id of this call), lease ttl (s), max_attempts, exclusive ('1' or ''), and for a
-- claim that this Redis has lost: its attempt, and the number of its event
-- → the record, with the field `prompt` that it had until now; 'exclusive' if this is the job's last attempt, which needs
--   a worker of its own; or nothing if the job does not wait (a second message, a cancel, its deadline), its queue is
--   paused, or another worker will run it in isolation. Then its slot goes to the next job.
--
-- A call that is repeated after a lost reply gets the same answer, but no `prompt`. A claim renews the lease of its
-- worker, so no job ever runs without a lease. A lost claim is made again only if its event gets the same number as
-- before.
local worker, device, claim, ttl, max_attempts, exclusive = unpack(ARGV, 6, 11)
local lost_attempt, lost_event = unpack(ARGV, 12, 13)
local state, queue, owner, lost, current, timeout, attempts, events, created, waits_since, prompt = unpack(
  redis.call('HMGET', RECORD, 'state', 'queue', 'owner', 'lost', 'claim', 'timeout_s', 'attempt', 'events', 'created_at',
  'waits_since', 'prompt'))
if state == 'running' and current == claim then return redis.call('HGETALL', RECORD) end
local function refuse()
  if queue then dispatch_all(queue) end
  return nil
end
if state ~= 'queued' then return refuse() end
if lost_attempt then
  if attempts + 1 ~= tonumber(lost_attempt) or events + 1 ~= tonumber(lost_event) then return nil end
elseif expire() then
  return refuse()
elseif is_paused(queue) then
  redis.call('HDEL', RECORD, 'apart') -- its worker does not wait any more, so the dispatch takes the job back
  return refuse()
end
lease(worker, ttl)
if lost and tonumber(lost) >= tonumber(max_attempts) - 1 and exclusive == '' then
  local isolated_by = redis.call('HGET', RECORD, 'apart')
  if isolated_by and isolated_by ~= worker and holds_lease(isolated_by) then return refuse() end
  redis.call('HSET', RECORD, 'apart', worker)
  return 'exclusive'
end
local attempt = redis.call('HINCRBY', RECORD, 'attempt', 1)
redis.call('HSET', RECORD, 'state', 'running', 'worker', worker, 'device', device, 'claim', claim, 'claimed_at', NOW)
if redis.call('HSETNX', RECORD, 'started_at', NOW) == 1 then
  redis.call('ZADD', DEADLINES, clock() + (timeout or 3600), ID)
end
redis.call('HDEL', RECORD, 'apart', 'waits_since')
-- The job is still in its flow if an extra message brought it here before it was dispatched.
if redis.call('ZSCORE', flow(queue, owner), ID) then charge(queue, owner, ID) end
remove_waiting(queue, owner)
join(active(owner), ID)
redis.call('SADD', running(queue), ID)
join(worker_jobs(worker), ID)
update_room(worker)
count('stoker_attempts_total', queue)
observe('stoker_job_queue_seconds', NOW - (waits_since or created), queue)
emit('started', attempt, '{"worker":' .. cjson.encode(worker) .. ',"device":' .. cjson.encode(device) .. '}')
local record = redis.call('HGETALL', RECORD)
if prompt then record[#record + 1], record[#record + 2] = 'prompt', prompt end
return record
