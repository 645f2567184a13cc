-- Shared by the scripts: ARGV = prefix, time (RFC 3339), time (epoch s), retention (s), job id, …
-- (those about workers have prefix, …). One Redis, not a Cluster: the scripts reach a job's keys and its
-- queue's keys together.
local P, TIME, NOW, RETENTION, ID = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5] or ''
local CHANNEL, RECORD, LOG
local WORKERS, DEADLINES = P .. ':workers', P .. ':deadlines'

-- What follows is about this job.
local function about(id)
  ID = id
  CHANNEL = P .. ':job:{' .. ID .. '}'
  RECORD, LOG = CHANNEL .. ':record', CHANNEL .. ':events'
end
about(ID)

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
