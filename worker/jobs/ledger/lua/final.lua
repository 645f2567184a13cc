-- Final states: how a job leaves its worker and ends.

local MAX_TRACES = 10000 -- jobs whose spans wait for their export; those of the oldest are lost

-- Remove the running job in hand from its worker, its queue and its owner.
local function detach(queue)
  local worker, owner = unpack(redis.call('HMGET', RECORD, 'worker', 'owner'))
  redis.call('SREM', running(queue), ID)
  leave(worker_jobs(worker), ID)
  update_room(worker)
  leave_active(owner, ID)
  withdraw_segments(queue)
end

-- Raise the metrics of ended jobs for the job in hand. The worker of a chat raises those of vLLM together with this
-- event, as far as it knows them: why the chat has succeeded, and tokens.
local function count_end(state, queue)
  local kind, created, adapter, tokens, counted =
    unpack(redis.call('HMGET', RECORD, 'kind', 'created_at', 'adapter', 'done', 'counted'))
  observe('stoker_job_seconds', NOW - created, kind, state)
  if kind ~= 'chat' then return end
  local model, new_tokens = adapter or string.match(queue, '^chat%.(.*)'), (tokens or 0) - (counted or 0)
  if new_tokens > 0 then raise(new_tokens, 'vllm:generation_tokens_total', model, '0') end
  if state ~= 'succeeded' then
    count('vllm:request_success_total', model, '0', state == 'canceled' and 'abort' or 'error')
  end
end

-- End the job in hand: log the terminal event `kind`, which is also the job's final state.
local function finish(kind, queue, attempt, fields)
  local now = clock() -- for deletions; NOW may be the time of an event that was logged late
  emit(kind, attempt, fields)
  redis.call('HSET', RECORD, 'state', kind, 'finished_at', NOW)
  local owner, inputs, result, idempotency_key =
    unpack(redis.call('HMGET', RECORD, 'owner', 'inputs', 'result', 'once'))
  for _, key in ipairs({ RECORD, LOG, idempotency_key or nil }) do
    redis.call('EXPIRE', key, RETENTION + 3600) -- in case no process is there to call `forget`
  end
  redis.call('ZREM', DEADLINES, ID)
  redis.call('ZADD', FINISHED, now, ID)
  close_account(owner) -- open it again as that of an ended job
  redis.call('ZADD', ended(owner), now, ID)
  enter_memory(owner)
  if inputs then
    redis.call('ZADD', INPUTS, now, ID)
    enter_files(owner, kind, inputs, result)
  end
  if redis.call('HEXISTS', RECORD, 'webhook') == 1 then redis.call('ZADD', WEBHOOKS, now, ID) end
  if redis.call('HEXISTS', RECORD, 'traced') == 1 then
    redis.call('ZADD', TRACES, now, ID)
    redis.call('ZREMRANGEBYRANK', TRACES, 0, -1 - MAX_TRACES)
  end
  redis.call('HINCRBY', P .. ':totals', queue .. ' ' .. kind, 1)
  count_end(kind, queue)
  local started = redis.call('HGET', RECORD, 'started_at')
  if started then -- a moving average of the run time, for estimated waits
    local took, average = math.max(0, NOW - started), redis.call('HGET', P .. ':service', queue)
    redis.call('HSET', P .. ':service', queue, average and 0.8 * average + 0.2 * took or took)
  end
end

local function fail(code, message, queue, attempt)
  local fields = '{"code":"' .. code .. '","message":"' .. message .. '"}'
  redis.call('HSET', RECORD, 'error', fields)
  finish('failed', queue, attempt, fields)
end

-- End the job in hand if its deadline has passed, and return whether it was ended. The job's worker is not asked:
-- the reply to its next append is 'stale'.
local function expire()
  local deadline = redis.call('ZSCORE', DEADLINES, ID)
  if not deadline or tonumber(deadline) > clock() then return false end
  redis.call('ZREM', DEADLINES, ID)
  local state, queue, attempt, cancel, started, owner =
    unpack(redis.call('HMGET', RECORD, 'state', 'queue', 'attempt', 'cancel', 'started_at', 'owner'))
  if state == 'queued' then
    remove_waiting(queue, owner)
  elseif state == 'running' then
    detach(queue)
  else
    return false
  end
  if cancel then
    finish('canceled', queue, attempt, '{}')
  elseif started then
    fail('timeout', 'it was not done within its timeout_s', queue, attempt)
  else
    fail('expired', 'it waited longer than its max_queue_s', queue, attempt)
  end
  return true
end
