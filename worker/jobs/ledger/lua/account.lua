-- Accounts: how much each owner keeps, and the room for another job.
--
-- An owner has two accounts: the bytes of its jobs in Redis, and the bytes of their files. Each is a hash with an
-- entry for each job, and the fields `total` and `ended`, which are the sum of the entries and the part of ended jobs.
-- A job is entered when it is submitted, and again when it has ended. Events that a running job logs are counted at
-- its end.
local INPUTS, FINISHED = P .. ':inputs', P .. ':finished'
local TRIMMED = 100 -- logs with at most so many events are trimmed
local EVICTIONS = 100 -- the most jobs that one script evicts, and the most evicted jobs of one owner with files

local function ended(owner) return P .. ':owner:' .. owner .. ':ended' end
local function evicted(owner) return P .. ':owner:' .. owner .. ':evicted' end
local function redis_account(owner) return P .. ':owner:' .. owner .. ':bytes' end
local function file_account(owner) return P .. ':owner:' .. owner .. ':file_bytes' end
local function entry(account, field) return tonumber(redis.call('HGET', account, field) or 0) end

-- Enter the bytes of the job in hand into the owner's account, in place of its earlier entry. 0 removes the entry.
local function enter(owner, account, bytes)
  local change = bytes - entry(account, ID)
  if change == 0 then return end
  if bytes > 0 then
    redis.call('HSET', account, ID, bytes)
  else
    redis.call('HDEL', account, ID)
  end
  redis.call('HINCRBY', account, 'total', change)
  if redis.call('ZSCORE', ended(owner), ID) then redis.call('HINCRBY', account, 'ended', change) end
end

-- Give back the memory that Redis has allocated for further events of the log in hand, up to 4 KiB. A copy has none. A
-- reader that waits for events of the log gets those of the copy. A long log is not worth the time.
local function trim_log()
  if redis.call('XLEN', LOG) > TRIMMED then return end
  redis.call('COPY', LOG, LOG .. ':copy', 'REPLACE')
  redis.call('RENAME', LOG .. ':copy', LOG)
end

-- Enter the memory of the record and the log of the job in hand.
local function enter_memory(owner)
  local bytes = 0
  trim_log()
  for _, key in ipairs({ RECORD, LOG }) do bytes = bytes + redis.call('MEMORY', 'USAGE', key, 'SAMPLES', 0) end
  enter(owner, redis_account(owner), bytes)
end

-- Enter the files of the job in hand, which ends now as `kind`. A video's result states its bytes.
local function enter_files(owner, kind, inputs, result)
  local kept = kind == 'succeeded' and result and cjson.decode(result).bytes or 0
  enter(owner, file_account(owner), inputs + kept)
end

-- Remove the job in hand from its owner's ended jobs and accounts.
local function close_account(owner)
  enter(owner, redis_account(owner), 0)
  enter(owner, file_account(owner), 0)
  redis.call('ZREM', ended(owner), ID)
end

-- Delete the job in hand, which has ended. The caller has removed its files.
local function erase()
  local owner, idempotency_key = unpack(redis.call('HMGET', RECORD, 'owner', 'once'))
  redis.call('DEL', RECORD, LOG, CHANNEL .. ':segments')
  if idempotency_key and redis.call('HGET', idempotency_key, 'job') == ID then redis.call('DEL', idempotency_key) end
  owner = owner or owner_of_lost()
  redis.call('ZREM', P .. ':owner:' .. owner .. ':jobs', ID)
  redis.call('ZREM', undelivered(owner), ID)
  redis.call('SREM', evicted(owner), ID)
  close_account(owner)
  for _, key in ipairs({ P .. ':jobs', FINISHED, WEBHOOKS, INPUTS, TRACES }) do redis.call('ZREM', key, ID) end
  redis.call('HDEL', WEBHOOKS_ACTIVE, ID)
end

-- Forget the job in hand, which has ended, before its retention is over. If it may have files, recovery removes
-- them and then deletes the job, as if its retention were over.
local function evict(owner)
  local has_result = redis.call('HEXISTS', file_account(owner), ID) == 1
  if not has_result and redis.call('HEXISTS', RECORD, 'inputs') == 0 then return erase() end
  close_account(owner)
  redis.call('SADD', evicted(owner), ID)
  redis.call('ZADD', FINISHED, 'XX', 0, ID)
end

-- Return the owner's oldest ended jobs, at most so many. Those with an undelivered webhook come last.
local function oldest_ended(owner, count)
  if count <= 0 then return {} end
  local jobs, with_webhook = redis.call('ZRANGE', ended(owner), 0, count - 1), {}
  local new = redis.call('ZMSCORE', WEBHOOKS, unpack(jobs))
  local due = redis.call('ZMSCORE', undelivered(owner), unpack(jobs))
  for i = #jobs, 1, -1 do
    if new[i] or due[i] then table.insert(with_webhook, 1, table.remove(jobs, i)) end
  end
  for _, id in ipairs(with_webhook) do jobs[#jobs + 1] = id end
  return jobs
end

-- Return the jobs to evict for the owner's next job, and whether the owner may keep that one then. None are evicted
-- if the evictions cannot help. If they need more than one script, this one evicts its part, and retries the rest.
local function plan_evictions(owner, max_jobs, max_bytes, max_file_bytes, bytes, file_bytes)
  local memory, files, plan = redis_account(owner), file_account(owner), {}
  local jobs_over = math.min(redis.call('ZCARD', ended(owner)) - max_jobs, EVICTIONS) -- reach a lowered cap in steps
  local bytes_over = entry(memory, 'total') + bytes - max_bytes
  local file_bytes_over = entry(files, 'total') + file_bytes - max_file_bytes
  local function fits() return jobs_over <= 0 and bytes_over <= 0 and file_bytes_over <= 0 end
  if fits() then return plan, true end
  if bytes_over > entry(memory, 'ended') or file_bytes_over > entry(files, 'ended') then return plan, false end
  local with_files = redis.call('SCARD', evicted(owner))
  for _, id in ipairs(oldest_ended(owner, EVICTIONS - with_files)) do
    if fits() then break end
    plan[#plan + 1] = id
    jobs_over = jobs_over - 1
    bytes_over, file_bytes_over = bytes_over - entry(memory, id), file_bytes_over - entry(files, id)
  end
  if not fits() and with_files > 0 then return {}, false end -- first the files of evicted jobs must go
  return plan, fits()
end

-- Return whether the owner may keep a job with so many bytes more. Evict ended jobs for it, but with `only_check`
-- none for a job that fits.
local function make_room(only_check, owner, ...)
  local submitted, plan, fits = ID, plan_evictions(owner, ...)
  if fits and only_check then return true end
  for _, id in ipairs(plan) do
    use_job(id)
    evict(owner)
  end
  use_job(submitted)
  return fits
end

-- Return why the queue cannot take a job of the owner, or nil: what `full` returns, or 'kept' if the owner keeps too
-- much. `caps` are max_waiting, max_waiting_per_key, max_kept_jobs, max_kept_bytes and max_kept_file_bytes.
-- `size` is the length of the job. For `only_check` see `make_room`.
local function refusal(queue, owner, size, caps, bytes, file_bytes, only_check)
  local refused = full(queue, owner, caps[1], caps[2], size)
  if refused then return refused end
  return not make_room(only_check, owner, caps[3], caps[4], caps[5], bytes, file_bytes) and 'kept' or nil
end
