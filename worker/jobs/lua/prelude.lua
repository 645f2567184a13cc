-- Shared by the job scripts: ARGV = prefix, time (RFC 3339), time (epoch s), retention (s), job id, …
-- One Redis, not a Cluster: the scripts reach a job's keys and its queue's keys together.
local P, TIME, NOW, RETENTION, ID = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5] or ''
local CHANNEL = P .. ':job:{' .. ID .. '}'
local RECORD, LOG = CHANNEL .. ':record', CHANNEL .. ':events'

local function waiting(queue) return P .. ':queue:' .. queue .. ':waiting' end
local function running(queue) return P .. ':queue:' .. queue .. ':running' end
local function worker_jobs(name) return P .. ':worker:' .. name .. ':jobs' end

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
  redis.call('ZADD', P .. ':finished', NOW, ID)
  redis.call('HINCRBY', P .. ':totals', queue .. ' ' .. kind, 1)
  local started = redis.call('HGET', RECORD, 'started_at')
  if started then -- a moving average of the run time, for estimated waits
    local took, known = NOW - started, redis.call('HGET', P .. ':service', queue)
    redis.call('HSET', P .. ':service', queue, known and 0.8 * known + 0.2 * took or took)
  end
end
