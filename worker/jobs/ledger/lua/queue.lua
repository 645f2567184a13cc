-- The order of waiting jobs: start-time fair queueing (SFQ; P. Goyal, H. M. Vin and H. Cheng, "Start-time Fair
-- Queueing", SIGCOMM 1996).
--
-- A flow is the line of waiting jobs of one owner in one queue, ordered by priority and then by age. The length of
-- a job is the number of its choices, usually 1, and every flow has weight 1. So the finish tag of a job is its start
-- tag plus its length. In the paper's terms:
--   * The start tag of a job is max(virtual time at its arrival, finish tag of the flow's previous job).
--   * Jobs are dispatched in the order of their start tags.
--   * The virtual time is the start tag of the job that was dispatched last.
-- Only the start tag S of a flow's first job is stored. The job j places behind it has the start tag S + j if those
-- ahead of it have length 1. Positions take them for such jobs.
--
-- A dispatched job has a Celery message, and no worker has claimed it yet. Only as many jobs are dispatched as
-- slots are free. So a job of another owner that arrives later does not wait behind a flood of messages.
--
-- Background jobs come last: they are dispatched only when no other job of any owner can be, and they leave some
-- slots free, so that a job which arrives later finds one. A flow has them behind its other jobs.
local PRIORITY_CLASS = 2 ^ 40 -- the rank of one priority is this far from the next; `seq` orders the jobs within
local BACKGROUND = 10 * PRIORITY_CLASS -- the rank of background jobs, whose priority is -1, is at least this
local RESERVED_PART = 8 -- background jobs leave one of so many slots free, and at least one of two or more

local function dispatched(queue) return P .. ':queue:' .. queue .. ':called' end
local function start_tags(queue) return P .. ':queue:' .. queue .. ':turns' end
local function sched(queue) return P .. ':queue:' .. queue .. ':fair' end
local function flow(queue, owner) return P .. ':queue:' .. queue .. ':line:' .. owner end
-- An owner's jobs in all queues: `active` are dispatched or running, `pending` are waiting.
local function active(owner) return P .. ':owner:' .. owner .. ':active' end
local function pending(owner) return P .. ':owner:' .. owner .. ':waiting' end

-- Return the number of jobs in a flow that are no background jobs. They come first.
local function foreground(queue, owner)
  return redis.call('ZCOUNT', flow(queue, owner), '-inf', '(' .. string.format('%d', BACKGROUND))
end

-- Note that positions may have changed, for the next broadcast.
local function bump_version(queue) redis.call('HINCRBY', sched(queue), 'version', 1) end

-- Put a job into its owner's flow. With `refund` the job was charged before: the flow's start tag goes back.
local function enqueue(queue, owner, id, rank, refund)
  redis.call('ZADD', flow(queue, owner), rank, id)
  if not redis.call('ZSCORE', start_tags(queue), owner) then
    local virtual_time, finish_tag = unpack(redis.call('HMGET', sched(queue), 'now', 'last:' .. owner))
    redis.call('ZADD', start_tags(queue), math.max(virtual_time or 0, finish_tag or 0), owner)
  end
  if refund then redis.call('ZINCRBY', start_tags(queue), -length(id), owner) end
end

-- Add the job in hand to the waiting jobs. `again` means that a worker had it already: it goes ahead of all other
-- jobs of its owner, whatever their priority, and its charge is refunded.
local function add_waiting(queue, owner, priority, seq, again)
  redis.call('ZADD', waiting(queue), seq, ID)
  join(pending(owner), ID)
  local rank = ((again and -1 or 9 - priority) * PRIORITY_CLASS) + seq
  redis.call('HSET', RECORD, 'rank', string.format('%d', rank))
  enqueue(queue, owner, ID, rank, again)
  bump_version(queue)
end

-- Take a job out of its flow, if it is there. An empty flow leaves its next start tag in the scheduler state.
local function dequeue(queue, owner, id)
  if redis.call('ZREM', flow(queue, owner), id) == 0 or redis.call('EXISTS', flow(queue, owner)) == 1 then return end
  redis.call('HSET', sched(queue), 'last:' .. owner, redis.call('ZSCORE', start_tags(queue), owner))
  redis.call('ZREM', start_tags(queue), owner)
end

-- Remove the job in hand from the waiting jobs, dispatched or not.
local function remove_waiting(queue, owner)
  redis.call('ZREM', waiting(queue), ID)
  leave(pending(owner), ID)
  if redis.call('ZREM', dispatched(queue), ID) == 1 then
    add_length(dispatched(queue), ID, -1)
    leave(active(owner), ID)
  end
  dequeue(queue, owner, ID)
  bump_version(queue)
end

-- Charge the owner's flow for a job: advance its start tag by the job's length, and the virtual time to the job's
-- start tag. Return that start tag.
local function charge(queue, owner, id)
  local by = length(id)
  local tag = redis.call('ZINCRBY', start_tags(queue), by, owner) - by
  redis.call('HSET', sched(queue), 'now', math.max(redis.call('HGET', sched(queue), 'now') or 0, tag))
  return tag
end

-- Return the number of slots of the queue's ready workers, and how many slots are free and have no dispatched job
-- yet. A job takes as many slots as its length. The second number is negative if dispatched jobs need more slots than
-- are free.
local function slots(queue)
  local all, free = 0, -lengths(dispatched(queue), redis.call('ZCARD', dispatched(queue)))
  local cards = redis.call('HGETALL', P .. ':worker:cards')
  for i = 1, #cards, 2 do
    local card = cjson.decode(cards[i + 1])
    -- A newer version of Stoker may have changed the card.
    if card.queue == queue and card.state == 'ready' and type(card.slots) == 'number' then
      all = all + card.slots
      free = free + math.max(0, card.slots - total(worker_jobs(cards[i])))
    end
  end
  return all, free
end

-- Dispatch the next job and return its id, or nil if there is none: a background job if `background` is true, else
-- another one. Owners at their running cap or without such a job are skipped, and their start tag is advanced to the
-- current one. Otherwise they would accumulate credit and take every slot afterwards.
local function dispatch(queue, background)
  local skipped = {}
  for _, owner in ipairs(redis.call('ZRANGE', start_tags(queue), 0, -1)) do
    local cap = redis.call('HGET', P .. ':key:' .. owner, 'max_running')
    local id, rank = unpack(redis.call('ZRANGE', flow(queue, owner), 0, 0, 'WITHSCORES'))
    if (tonumber(rank) >= BACKGROUND) ~= background or cap and total(active(owner)) + length(id) > tonumber(cap) then
      skipped[#skipped + 1] = owner
    else
      if redis.call('EXISTS', P .. ':job:{' .. id .. '}:record') == 0 then -- this Redis has lost data
        use_job(id)
        remove_waiting(queue, owner)
        return dispatch(queue, background)
      end
      local tag = charge(queue, owner, id)
      dequeue(queue, owner, id)
      for _, other in ipairs(skipped) do redis.call('ZADD', start_tags(queue), 'GT', tag, other) end
      local last = redis.call('HGET', sched(queue), 'called') or 0
      local at = string.format('%.6f', math.max(clock(), last + 1e-6)) -- strictly rising: it orders the set
      redis.call('HSET', sched(queue), 'called', at)
      redis.call('ZADD', dispatched(queue), at, id)
      add_length(dispatched(queue), id, 1)
      join(active(owner), id)
      return id
    end
  end
end

-- There are fewer free slots than dispatched jobs, for example because a worker drains. Return the most recently
-- dispatched job to its owner's flow, unless a slot would be free for it. Its Celery message cannot be taken back: a worker that receives it claims the
-- job before its turn. A job that waits to run in isolation stays dispatched, because a worker holds its message.
-- Return the length of the job that was returned, or nil.
local function undispatch(queue, free)
  for _, id in ipairs(redis.call('ZRANGE', dispatched(queue), 0, -1, 'REV')) do
    local record = P .. ':job:{' .. id .. '}:record'
    local owner, rank, isolated_by = unpack(redis.call('HMGET', record, 'owner', 'rank', 'apart'))
    if owner and not isolated_by then
      local needed = length(id)
      if free + needed > 0 then return nil end
      redis.call('ZREM', dispatched(queue), id)
      add_length(dispatched(queue), id, -1)
      leave(active(owner), id)
      enqueue(queue, owner, id, rank, true)
      local virtual_time = redis.call('HGET', sched(queue), 'now')
      local tag = redis.call('ZSCORE', start_tags(queue), owner)
      redis.call('HSET', sched(queue), 'now', math.min(virtual_time, tag))
      bump_version(queue)
      return needed
    end
  end
end

-- Dispatch jobs while slots are free, and return their ids. A paused queue has no free slot, and takes all its
-- dispatched jobs back. One free slot is enough for a job of any length: its
-- other choices wait in the engine of its worker. The caller sends the jobs' Celery messages.
local function dispatch_all(queue)
  local all, free = slots(queue)
  local reserved = all > 1 and math.max(1, math.floor(all / RESERVED_PART)) or 0
  if is_paused(queue) then free = -math.huge end
  while free < 0 do
    local freed = undispatch(queue, free)
    if not freed then break end
    free = free + freed
  end
  local ids = {}
  while free > 0 do
    local id = dispatch(queue, false) or free > reserved and dispatch(queue, true)
    if not id then break end
    ids[#ids + 1] = id
    free = free - length(id)
  end
  return ids
end

-- Return the position of the job in hand, from 1, or nil if it does not wait. Dispatched jobs come first, then the
-- flows by start tag. Jobs with the same start tag are ordered by their owners' names, as Redis orders members.
-- Background jobs of all flows come after all other jobs.
local function position(queue, owner)
  local rank = redis.call('ZRANK', dispatched(queue), ID)
  if rank then return rank + 1 end
  local ahead_in_flow = redis.call('ZRANK', flow(queue, owner), ID)
  if not ahead_in_flow then return nil end
  local tag = redis.call('ZSCORE', start_tags(queue), owner) + ahead_in_flow
  local found = redis.call('ZCARD', dispatched(queue)) + ahead_in_flow + 1
  local background = ahead_in_flow >= foreground(queue, owner)
  local others = redis.call('ZRANGE', start_tags(queue), 0, -1, 'WITHSCORES')
  for i = 1, #others, 2 do
    local other, ahead = others[i], tag - others[i + 1]
    if other ~= owner then
      if other < owner then ahead = ahead + 1 end
      local first = foreground(queue, other)
      if background then
        found = found + first
        ahead, first = ahead - first, redis.call('ZCARD', flow(queue, other)) - first
      end
      if ahead > 0 then found = found + math.min(ahead, first) end
    end
  end
  return found
end

-- Estimate the seconds until the job at this position starts: 0 if a slot is free for it. Otherwise `place` jobs
-- must end first, and in the average run time each slot ends one. Return '' if no run time was measured, no
-- worker is ready, or the queue is paused.
local function estimate(queue, place)
  if is_paused(queue) then return '' end
  local all, free = slots(queue)
  if place <= free + redis.call('ZCARD', dispatched(queue)) then return '0' end
  local service = redis.call('HGET', P .. ':service', queue)
  return all > 0 and service and string.format('%.3f', place * service / all) or ''
end

-- Log the position of the job in hand as a `queued` event.
local function emit_position(place, attempt)
  redis.call('HSET', RECORD, 'place', place, 'told_at', string.format('%.3f', clock()))
  emit('queued', attempt, '{"position":' .. place .. '}')
end

-- Return 'queue' if the queue is full, 'key' if the owner may have no more waiting jobs, nil if there is room for a job
-- of this length.
--
-- A full queue still takes a job of an owner that has fewer waiting jobs, in all queues, than an equal share of
-- max_waiting. So the owners that filled it lock nobody out.
local function full(queue, owner, max_waiting, max_waiting_per_key, size)
  local mine = total(pending(owner))
  local cap = redis.call('HGET', P .. ':key:' .. owner, 'max_waiting') or (owner ~= '' and max_waiting_per_key)
  if cap and mine + size > tonumber(cap) then return 'key' end
  if redis.call('ZCARD', waiting(queue)) < tonumber(max_waiting) then return nil end
  local owners = redis.call('ZCARD', start_tags(queue))
  if not redis.call('ZSCORE', start_tags(queue), owner) then owners = owners + 1 end
  if mine >= max_waiting / owners then return 'queue' end
end
