-- … the five caps of `refusal`, max_queue (s), timeout (s), kind, queue, spec, owner, priority (-1 for a background job), Redis key of the
-- idempotency key (or ''), fingerprint, host of the webhook (or ''), bytes of the job's files,
-- schema number of the record, length of the job, id of the job that this one repeats (or ''), adapter (or ''), and its
-- place in a trace, of which any part may be '': traceparent, tracestate, traceparent of a linked span, '1' if its spans
-- are made; the token ids of a chat's prompt (or '')
-- → 'ok', the job's id, and the ids of the jobs that are dispatched now; or what `refusal` returns; or 'differs' if
--   the idempotency key belongs to another request
--
-- A repeated request gets the job that the first one made. A job that repeats another one gets its stored `spec`, which may
-- have fields that the caller does not know.
local caps = { unpack(ARGV, 6, 10) }
local max_queue, timeout, kind, queue, spec, owner, priority, idempotency_key, fingerprint, host, file_bytes,
  schema, size, retry_of, adapter = unpack(ARGV, 11, 25)
local trace = { trace = ARGV[26], tracestate = ARGV[27], trace_link = ARGV[28], traced = ARGV[29] }
local prompt = ARGV[30]
local LONG_PROMPT = 1024 -- shorter ones take a worker less than half a millisecond, and 0.4 kB of a waiting job
local function accepted() return { 'ok', ID, unpack(dispatch_all(queue)) } end
if redis.call('EXISTS', RECORD) == 1 then return accepted() end -- a retry after a lost reply
if idempotency_key ~= '' then
  local id, earlier = unpack(redis.call('HMGET', idempotency_key, 'job', 'fingerprint'))
  if id and redis.call('EXISTS', P .. ':job:{' .. id .. '}:record') == 1 then
    if earlier ~= fingerprint then return { 'differs' } end
    use_job(id)
    return accepted()
  end
end
if retry_of ~= '' then spec = redis.call('HGET', P .. ':job:{' .. retry_of .. '}:record', 'spec') or spec end
local refused = refusal(queue, owner, size, caps, #spec + #prompt, file_bytes)
if refused then return { refused } end
local seq = redis.call('INCR', P .. ':seq')
redis.call('HSET', RECORD, 'schema', schema, 'kind', kind, 'queue', queue, 'owner', owner, 'spec', spec, 'state', 'queued',
  'seq', seq, 'created_at', NOW, 'attempt', 0, 'timeout_s', timeout)
if size ~= '1' then redis.call('HSET', RECORD, 'length', size) end
if retry_of ~= '' then redis.call('HSET', RECORD, 'retry_of', retry_of) end
if #prompt >= LONG_PROMPT then
  redis.call('HSET', RECORD, 'prompt', prompt) -- `remove_waiting` removes it
elseif prompt ~= '' then
  short_prompts[ID] = prompt
end
if adapter ~= '' then redis.call('HSET', RECORD, 'adapter', adapter) end -- the model's name in metrics
for name, value in pairs(trace) do
  if value ~= '' then redis.call('HSET', RECORD, name, value) end
end
if idempotency_key ~= '' then
  redis.call('HSET', RECORD, 'once', idempotency_key)
  redis.call('DEL', idempotency_key)
  redis.call('HSET', idempotency_key, 'job', ID, 'fingerprint', fingerprint)
end
if host ~= '' then -- `webhook` counts the tries at the webhook
  redis.call('HSET', RECORD, 'webhook', 0, 'webhook_host', host)
end
redis.call('ZADD', P .. ':jobs', seq, ID)
redis.call('ZADD', P .. ':owner:' .. owner .. ':jobs', seq, ID)
redis.call('SADD', P .. ':queues', queue)
local place = dispatch_at_once(queue, owner, priority, seq, tonumber(size))
if not place then add_waiting(queue, owner, priority, seq) end
redis.call('ZADD', DEADLINES, clock() + max_queue, ID)
if redis.call('ZCARD', DEADLINES) == 1 and take_round('work', WORK_MS) == -1 then announce('work') end
emit_position(place or position(queue, owner), 0)
enter_memory(owner)
if file_bytes ~= '0' then
  redis.call('HSET', RECORD, 'inputs', file_bytes) -- also marks a job that has files
  enter(owner, file_account(owner), tonumber(file_bytes))
end
count('stoker_jobs_submitted_total', queue)
if not place then return accepted() end
push_message(queue, ID)
return { 'ok', ID, ID }
