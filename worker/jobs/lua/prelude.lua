-- Shared by the scripts: ARGV = prefix, time (RFC 3339), time (epoch s), retention (s), job id, …
-- (those about workers have prefix, …). One Redis, not a Cluster: the scripts reach a job's keys and its
-- queue's keys together.
local P, TIME, NOW, RETENTION, ID = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5] or ''
local CHANNEL = P .. ':job:{' .. ID .. '}'
local RECORD, LOG = CHANNEL .. ':record', CHANNEL .. ':events'
local WORKERS, DEADLINES = P .. ':workers', P .. ':deadlines'

local function waiting(queue) return P .. ':queue:' .. queue .. ':waiting' end
local function running(queue) return P .. ':queue:' .. queue .. ':running' end
local function worker_jobs(name) return P .. ':worker:' .. name .. ':jobs' end

-- Leases and deadlines are measured by Redis' own clock (s): hosts may disagree.
local function clock()
  local time = redis.call('TIME')
  return time[1] + time[2] / 1e6
end

local function lease(worker, ttl_s) redis.call('ZADD', WORKERS, 'GT', clock() + ttl_s, worker) end

local function holds_lease(worker)
  local deadline = redis.call('ZSCORE', WORKERS, worker)
  return deadline and tonumber(deadline) > clock()
end

-- Number, store and publish one event; `fields` is a JSON object. `resume`, if any, is for the job's next
-- attempt only: it lies beside the event in the log.
local function emit(kind, attempt, fields, resume)
  local n = redis.call('HINCRBY', RECORD, 'events', 1)
  local event = '{"n":' .. n .. ',"type":"' .. kind .. '","job":"' .. ID .. '","attempt":' .. attempt
    .. ',"time":"' .. TIME .. '"' .. (fields == '{}' and '}' or ',' .. string.sub(fields, 2))
  local entry = { n .. '-0', 'event', event }
  if resume and resume ~= '' then entry[4], entry[5] = 'resume', resume end
  redis.call('XADD', LOG, unpack(entry))
  redis.call('PUBLISH', CHANNEL, event)
end

-- Take a running job off its worker.
local function detach(queue)
  redis.call('SREM', running(queue), ID)
  redis.call('SREM', worker_jobs(redis.call('HGET', RECORD, 'worker')), ID)
end

local function finish(kind, queue, attempt, fields)
  emit(kind, attempt, fields)
  redis.call('HSET', RECORD, 'state', kind, 'finished_at', NOW)
  redis.call('EXPIRE', RECORD, RETENTION)
  redis.call('EXPIRE', LOG, RETENTION)
  redis.call('ZREM', DEADLINES, ID)
  redis.call('ZADD', P .. ':finished', NOW, ID)
  if redis.call('HEXISTS', RECORD, 'webhook') == 1 then redis.call('ZADD', P .. ':webhooks', clock(), ID) end
  redis.call('HINCRBY', P .. ':totals', queue .. ' ' .. kind, 1)
  local started = redis.call('HGET', RECORD, 'started_at')
  if started then -- a moving average of the run time, for estimated waits
    local took, known = NOW - started, redis.call('HGET', P .. ':service', queue)
    redis.call('HSET', P .. ':service', queue, known and 0.8 * known + 0.2 * took or took)
  end
end

local function fail(code, message, queue, attempt)
  local fields = '{"code":"' .. code .. '","message":"' .. message .. '"}'
  redis.call('HSET', RECORD, 'error', fields)
  finish('failed', queue, attempt, fields)
end

-- End the job if its time is up, whatever its worker does: that finds its next append refused.
local function expire()
  local deadline = redis.call('ZSCORE', DEADLINES, ID)
  if not deadline or tonumber(deadline) > clock() then return false end
  redis.call('ZREM', DEADLINES, ID)
  local state, queue, attempt, cancel, started =
    unpack(redis.call('HMGET', RECORD, 'state', 'queue', 'attempt', 'cancel', 'started_at'))
  if state == 'queued' then
    redis.call('ZREM', waiting(queue), ID)
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
