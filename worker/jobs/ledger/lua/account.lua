-- Accounts: how much each owner keeps, and the room for another job.
--
-- An owner has two accounts: the bytes of its jobs in Redis, and the bytes of their files. Each is a hash with an
-- entry for each job, and the field `total`, which is the sum of the entries. A job is entered when it is submitted,
-- and again when it has ended. Events that a running job logs are counted at its end.
local INPUTS, FINISHED = P .. ':inputs', P .. ':finished'
local EVICTIONS = 100 -- the most jobs that one script evicts, and the most evicted jobs that still have files

local function ended(owner) return P .. ':owner:' .. owner .. ':ended' end
local function redis_account(owner) return P .. ':owner:' .. owner .. ':bytes' end
local function file_account(owner) return P .. ':owner:' .. owner .. ':file_bytes' end
local function total(account) return tonumber(redis.call('HGET', account, 'total') or 0) end

-- Enter the bytes of the job in hand into the account, in place of its earlier entry. 0 removes the entry.
local function enter(account, bytes)
  local change = bytes - (redis.call('HGET', account, ID) or 0)
  if change == 0 then return end
  if bytes > 0 then
    redis.call('HSET', account, ID, bytes)
  else
    redis.call('HDEL', account, ID)
  end
  redis.call('HINCRBY', account, 'total', change)
end

-- Enter the memory of the record and the log of the job in hand.
local function enter_memory(owner)
  local bytes = 0
  for _, key in ipairs({ RECORD, LOG }) do bytes = bytes + redis.call('MEMORY', 'USAGE', key, 'SAMPLES', 0) end
  enter(redis_account(owner), bytes)
end

-- Enter the files of the job in hand, which ends now as `kind`. A video's result states its bytes.
local function enter_files(owner, kind, inputs, result)
  local kept = kind == 'succeeded' and result and cjson.decode(result).bytes or 0
  enter(file_account(owner), inputs + kept)
end

-- Remove the job in hand from its owner's ended jobs and accounts.
local function close_account(owner)
  redis.call('ZREM', ended(owner), ID)
  enter(redis_account(owner), 0)
  enter(file_account(owner), 0)
end

-- Delete the job in hand, which has ended. The caller has removed its files.
local function erase()
  local owner, idempotency_key = unpack(redis.call('HMGET', RECORD, 'owner', 'once'))
  redis.call('DEL', RECORD, LOG)
  if idempotency_key then redis.call('DEL', idempotency_key) end
  for _, each in ipairs(owner and { owner } or all_owners()) do
    redis.call('ZREM', P .. ':owner:' .. each .. ':jobs', ID)
    redis.call('ZREM', undelivered(each), ID)
    close_account(each)
  end
  for _, key in ipairs({ P .. ':jobs', FINISHED, P .. ':webhooks', INPUTS }) do redis.call('ZREM', key, ID) end
  redis.call('HDEL', WEBHOOKS_ACTIVE, ID)
end

-- Forget the job in hand, which has ended, before its retention is over. If it may have files, recovery removes
-- them and then deletes the job, as if its retention were over.
local function evict(owner)
  local has_result = redis.call('HEXISTS', file_account(owner), ID) == 1
  if not has_result and redis.call('HEXISTS', RECORD, 'inputs') == 0 then return erase() end
  close_account(owner)
  redis.call('ZADD', FINISHED, 'XX', 0, ID)
end

-- Return whether the owner may keep a job with so many bytes more. Evict its oldest ended jobs for it.
local function make_room(owner, max_jobs, max_bytes, max_file_bytes, bytes, file_bytes)
  local function has_room()
    return redis.call('ZCARD', ended(owner)) <= tonumber(max_jobs)
      and total(redis_account(owner)) + bytes <= tonumber(max_bytes)
      and total(file_account(owner)) + file_bytes <= tonumber(max_file_bytes)
  end
  local submitted, room = ID, has_room()
  for _ = 1, EVICTIONS do
    if room or redis.call('ZCOUNT', FINISHED, 0, 0) >= EVICTIONS then break end
    local oldest = redis.call('ZRANGE', ended(owner), 0, 0)[1]
    if not oldest then break end
    use_job(oldest)
    evict(owner)
    room = has_room()
  end
  use_job(submitted)
  return room
end

-- Return why the queue cannot take a job of the owner, or nil: what `full` returns, or 'kept' if the owner keeps too
-- much. `caps` are max_waiting, max_waiting_per_key, max_kept_jobs, max_kept_bytes and max_kept_file_bytes.
local function refusal(queue, owner, caps, bytes, file_bytes)
  local refused = full(queue, owner, caps[1], caps[2])
  if not refused and not make_room(owner, caps[3], caps[4], caps[5], bytes, file_bytes) then return 'kept' end
  return refused
end
