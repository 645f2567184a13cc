-- … max_waiting, max_queue (s), timeout (s), kind, queue, spec, owner, priority, once (key of the idempotency
-- key, or ''), fingerprint, webhook ('1' or '') → 'ok', job id, and the ids of jobs to hint at; or 'queue', 'key' (as many jobs wait
-- there as may) or 'differs' (the idempotency key came with another request). A repeated request finds its job.
local max_waiting, max_queue, timeout, kind, queue, spec, owner, priority, once, fingerprint, webhook =
  unpack(ARGV, 6, 16)
local function accepted() return { 'ok', ID, unpack(call_all(queue)) } end
if redis.call('EXISTS', RECORD) == 1 then return accepted() end -- a retry after a lost reply
if once ~= '' then
  local id, was = unpack(redis.call('HMGET', once, 'job', 'fingerprint'))
  if id and redis.call('EXISTS', P .. ':job:{' .. id .. '}:record') == 1 then
    if was ~= fingerprint then return { 'differs' } end
    about(id)
    return accepted()
  end
end
local full = no_room(queue, owner, max_waiting)
if full then return { full } end
local seq = redis.call('INCR', P .. ':seq')
redis.call('HSET', RECORD, 'kind', kind, 'queue', queue, 'owner', owner, 'spec', spec, 'state', 'queued',
  'seq', seq, 'created_at', NOW, 'attempt', 0, 'timeout_s', timeout)
if once ~= '' then
  redis.call('HSET', RECORD, 'once', once)
  redis.call('DEL', once)
  redis.call('HSET', once, 'job', ID, 'fingerprint', fingerprint)
end
if webhook == '1' then redis.call('HSET', RECORD, 'webhook', 0) end -- so often was its end delivered
redis.call('ZADD', P .. ':jobs', seq, ID)
redis.call('ZADD', P .. ':owner:' .. owner .. ':jobs', seq, ID)
redis.call('SADD', P .. ':queues', queue)
enqueue(queue, owner, priority, seq)
redis.call('ZADD', DEADLINES, clock() + max_queue, ID)
tell(position(queue, owner), 0)
return accepted()
