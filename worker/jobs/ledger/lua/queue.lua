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
local BACKGROUND_LAST = 2 ^ 50 -- is added to the start tags of flows that have only background jobs, in `ready`
local EXACT_FLOWS = 100 -- positions are exact among so many flows
-- The most jobs that one script dispatches and takes back, flows whose wrong entries it finds, and flows it refreshes.
local DISPATCHED, UNDISPATCHED, VISITS, REFRESHED = 64, 64, 100, 50
local RESERVED_PART = 8 -- background jobs leave one of so many slots free, and at least one of two or more

local function dispatched(queue) return P .. ':queue:' .. queue .. ':called' end
local function start_tags(queue) return P .. ':queue:' .. queue .. ':turns' end
local function ready(queue) return P .. ':queue:' .. queue .. ':ready' end
local function flow_lengths(queue) return P .. ':queue:' .. queue .. ':lengths' end
local function sched(queue) return P .. ':queue:' .. queue .. ':fair' end
local function flow(queue, owner) return P .. ':queue:' .. queue .. ':line:' .. owner end
-- An owner's jobs in all queues: `active` are dispatched or running, `pending` are waiting.
local function active(owner) return P .. ':owner:' .. owner .. ':active' end
-- `parked` are the queues in which the owner's flow waits for the end of one of its jobs.
local function parked(owner) return P .. ':owner:' .. owner .. ':parked' end
local function pending(owner) return P .. ':owner:' .. owner .. ':waiting' end

-- Return the number of jobs in a flow that are no background jobs. They come first.
local function foreground(queue, owner)
  return redis.call('ZCOUNT', flow(queue, owner), '-inf', '(' .. string.format('%d', BACKGROUND))
end

-- Return whether a flow has only background jobs, or is not ready, by its score in `ready`. A start tag may be negative.
local function is_passed_over(score) return not score or tonumber(score) > BACKGROUND_LAST / 2 end

-- Note that positions may have changed, for the next broadcast. `indexed` stays behind `version` when a process of an
-- older version makes such a change, see `check_index`.
local function bump_version(queue)
  redis.call('HINCRBY', sched(queue), 'version', 1)
  redis.call('HINCRBY', sched(queue), 'indexed', 1)
end

-- A flow that is not ready, or has only background jobs, is passed over. Advance its start tag to the virtual time.
-- Otherwise it would accumulate credit, and take every slot afterwards.
local function catch_up(queue, owner)
  if not is_passed_over(redis.call('ZSCORE', ready(queue), owner)) then return end
  redis.call('ZADD', start_tags(queue), 'XX', 'GT', redis.call('HGET', sched(queue), 'now') or 0, owner)
end

-- Bring the entries of a flow in `ready` and `lengths` up to date, after a change of the flow or of its start tag.
local function index_flow(queue, owner)
  local rank = redis.call('ZRANGE', flow(queue, owner), 0, 0, 'WITHSCORES')[2]
  local tag = rank and redis.call('ZSCORE', start_tags(queue), owner)
  if not tag then
    redis.call('ZREM', ready(queue), owner)
    redis.call('ZREM', flow_lengths(queue), owner)
    return
  end
  local class = tonumber(rank) >= BACKGROUND and BACKGROUND_LAST or 0
  redis.call('ZADD', ready(queue), tag + class, owner)
  redis.call('ZADD', flow_lengths(queue), foreground(queue, owner), owner)
end

-- The owner is at its running cap: its flow is not ready until one of its jobs has ended.
local function park(queue, owner)
  redis.call('ZREM', ready(queue), owner)
  redis.call('SADD', parked(owner), queue)
end

-- A job of the owner has ended or goes back: its flows are ready again.
local function leave_active(owner, id)
  leave(active(owner), id)
  for _, queue in ipairs(redis.call('SMEMBERS', parked(owner))) do
    catch_up(queue, owner)
    index_flow(queue, owner)
    redis.call('SREM', parked(owner), queue)
  end
end

-- Put a job into its owner's flow. With `refund` the job was charged before: the flow's start tag goes back.
local function enqueue(queue, owner, id, rank, refund)
  redis.call('ZADD', flow(queue, owner), rank, id)
  if redis.call('ZSCORE', start_tags(queue), owner) then
    catch_up(queue, owner)
  else
    local virtual_time, finish_tag = unpack(redis.call('HMGET', sched(queue), 'now', 'last:' .. owner))
    redis.call('ZADD', start_tags(queue), math.max(virtual_time or 0, finish_tag or 0), owner)
  end
  if refund then redis.call('ZINCRBY', start_tags(queue), -length(id), owner) end
  index_flow(queue, owner)
end

-- Return the place of a job in its flow: by priority, and then by age.
local function rank_of(priority, seq) return string.format('%d', (9 - priority) * PRIORITY_CLASS + seq) end

-- Note that the job in hand waits.
local function note_waiting(queue, owner, rank, seq)
  redis.call('ZADD', waiting(queue), seq, ID)
  join(pending(owner), ID)
  redis.call('HSET', RECORD, 'rank', rank)
end

-- Add the job in hand to the waiting jobs. `again` means that a worker had it already: it goes ahead of all other
-- jobs of its owner, whatever their priority, and its charge is refunded.
local function add_waiting(queue, owner, priority, seq, again)
  local rank = rank_of(again and 10 or priority, seq)
  note_waiting(queue, owner, rank, seq)
  enqueue(queue, owner, ID, rank, again)
  bump_version(queue)
end

-- Take a job out of its flow, if it is there. An empty flow leaves its next start tag in the scheduler state.
local function dequeue(queue, owner, id)
  if redis.call('ZREM', flow(queue, owner), id) == 0 then return end
  if redis.call('EXISTS', flow(queue, owner)) == 0 then
    redis.call('HSET', sched(queue), 'last:' .. owner, redis.call('ZSCORE', start_tags(queue), owner))
    redis.call('ZREM', start_tags(queue), owner)
  end
  index_flow(queue, owner)
end

-- Remove the job in hand from the waiting jobs, and return whether it was dispatched.
local function remove_waiting(queue, owner)
  redis.call('ZREM', waiting(queue), ID)
  leave(pending(owner), ID)
  local was_dispatched = redis.call('ZREM', dispatched(queue), ID) == 1
  if was_dispatched then
    add_length(dispatched(queue), ID, -1)
    leave_active(owner, ID)
  end
  redis.call('HDEL', RECORD, 'prompt') -- only a waiting job needs it, and it can be as long as the spec
  dequeue(queue, owner, ID)
  bump_version(queue)
  return was_dispatched
end

-- Charge the owner's flow for a job: advance its start tag by the job's length, and the virtual time to the job's
-- start tag. Return that start tag.
local function charge(queue, owner, id)
  local by = length(id)
  catch_up(queue, owner)
  local tag = redis.call('ZINCRBY', start_tags(queue), by, owner) - by
  redis.call('HSET', sched(queue), 'now', math.max(redis.call('HGET', sched(queue), 'now') or 0, tag))
  return tag
end

-- Return the number of slots of the queue's ready workers, and how many slots are free and have no dispatched job
-- yet. A job takes as many slots as its length. The second number is negative if dispatched jobs need more slots than
-- are free.
local function slots(queue)
  if redis.call('HLEN', CARDS) ~= redis.call('HLEN', ROOM) then recount_room() end
  local all, free = unpack(redis.call('HMGET', ROOM_SUMS, queue .. ' slots', queue .. ' free'))
  return tonumber(all or 0), (free or 0) - lengths(dispatched(queue), redis.call('ZCARD', dispatched(queue)))
end

-- Bring the flows of a part of the owners up to date, the next ones with each call.
local function refresh_index(queue)
  local at = tonumber(redis.call('HGET', sched(queue), 'refreshed') or 0)
  local owners = redis.call('ZRANGE', start_tags(queue), at, at + REFRESHED - 1)
  for _, owner in ipairs(owners) do
    catch_up(queue, owner)
    index_flow(queue, owner)
  end
  if at > 0 or #owners == REFRESHED then
    redis.call('HSET', sched(queue), 'refreshed', #owners == REFRESHED and at + REFRESHED or 0)
  end
end

-- If a process of an older version has added a job to a flow, make every flow ready. Those that are not will be found
-- out when it is their turn.
local function check_index(queue)
  local version, indexed = unpack(redis.call('HMGET', sched(queue), 'version', 'indexed'))
  if version == indexed then return end
  redis.call('ZUNIONSTORE', ready(queue), 1, start_tags(queue))
  redis.call('ZINTERSTORE', flow_lengths(queue), 2, flow_lengths(queue), start_tags(queue), 'WEIGHTS', 1, 0)
  redis.call('HSET', sched(queue), 'indexed', version)
  refresh_index(queue)
end

local visits = 0 -- flows that this script has looked at without dispatching a job of theirs

-- Return the owner whose flow is next, and its first job: a background job if `background` is true, else another one.
-- Return nil if there is none. Flows whose entry in `ready` is wrong are put right, at most VISITS in one script.
local function next_job(queue, background)
  while visits < VISITS do
    local owner, score = unpack(redis.call('ZRANGE', ready(queue), 0, 0, 'WITHSCORES'))
    if not owner or is_passed_over(score) ~= background then return nil end
    local id, rank = unpack(redis.call('ZRANGE', flow(queue, owner), 0, 0, 'WITHSCORES'))
    local tag = id and redis.call('ZSCORE', start_tags(queue), owner)
    local class = id and tonumber(rank) >= BACKGROUND and BACKGROUND_LAST or 0
    local cap = redis.call('HGET', P .. ':key:' .. owner, 'max_running')
    if not tag or tag + class ~= tonumber(score) then
      index_flow(queue, owner)
    elseif cap and total(active(owner)) + length(id) > tonumber(cap) then
      park(queue, owner)
    elseif redis.call('EXISTS', P .. ':job:{' .. id .. '}:record') == 0 then -- this Redis has lost data
      use_job(id)
      remove_waiting(queue, owner)
    else
      return owner, id
    end
    visits = visits + 1
  end
end

-- Note that a job is dispatched now.
local function note_dispatch(queue, owner, id)
  local last = redis.call('HGET', sched(queue), 'called') or 0
  local at = string.format('%.6f', math.max(clock(), last + 1e-6)) -- strictly rising: it orders the set
  redis.call('HSET', sched(queue), 'called', at)
  redis.call('ZADD', dispatched(queue), at, id)
  add_length(dispatched(queue), id, 1)
  join(active(owner), id)
end

-- Dispatch the next job and return its id, or nil if there is none. For `background` see `next_job`.
local function dispatch(queue, background)
  local owner, id = next_job(queue, background)
  if not owner then return nil end
  charge(queue, owner, id)
  dequeue(queue, owner, id)
  note_dispatch(queue, owner, id)
  return id
end

-- There are fewer free slots than dispatched jobs, for example because a worker drains. Return the most recently
-- dispatched job to its owner's flow, unless a slot would be free for it. Its Celery message cannot be taken back: a worker that receives it claims the
-- job before its turn. A job that waits to run in isolation stays dispatched, because a worker holds its message.
-- Return the length of the job that was returned, or nil.
local function undispatch(queue, free)
  for _, id in ipairs(redis.call('ZRANGE', dispatched(queue), 0, UNDISPATCHED - 1, 'REV')) do
    local record = P .. ':job:{' .. id .. '}:record'
    local owner, rank, isolated_by = unpack(redis.call('HMGET', record, 'owner', 'rank', 'apart'))
    if owner and not isolated_by then
      local needed = length(id)
      if free + needed > 0 then return nil end
      redis.call('ZREM', dispatched(queue), id)
      add_length(dispatched(queue), id, -1)
      leave_active(owner, id)
      enqueue(queue, owner, id, rank, true)
      local virtual_time = redis.call('HGET', sched(queue), 'now')
      local tag = redis.call('ZSCORE', start_tags(queue), owner)
      redis.call('HSET', sched(queue), 'now', math.min(virtual_time, tag))
      bump_version(queue)
      return needed
    end
  end
end

-- Dispatch jobs while slots are free, and return their ids, at most DISPATCHED. A paused queue has no free slot, and
-- takes its dispatched jobs back. One free slot is enough for a job of any length: its other choices wait in the engine
-- of its worker. The caller calls again if it gets DISPATCHED jobs.
local function dispatch_all(queue)
  check_index(queue)
  local all, free = slots(queue)
  local reserved = all > 1 and math.max(1, math.floor(all / RESERVED_PART)) or 0
  if is_paused(queue) then free = -math.huge end
  for _ = 1, UNDISPATCHED do
    local freed = free < 0 and undispatch(queue, free)
    if not freed then break end
    free = free + freed
  end
  local ids = {}
  while free > 0 and #ids < DISPATCHED do
    local id = dispatch(queue, false) or free > reserved and dispatch(queue, true)
    if not id then break end
    push_message(queue, id)
    ids[#ids + 1] = id
    free = free - length(id)
  end
  return ids
end

-- If the queue has no flow and a slot is free, dispatch the new job in hand, and return its position, else nil. The tags
-- are as after `add_waiting` and `dispatch_all`. It takes about 40 commands less, because the job does not become a
-- flow. The caller pushes its message.
local function dispatch_at_once(queue, owner, priority, seq, size)
  if tonumber(priority) < 0 or redis.call('EXISTS', start_tags(queue)) == 1 or is_paused(queue) then return nil end
  local cap = redis.call('HGET', P .. ':key:' .. owner, 'max_running')
  if cap and total(active(owner)) + size > tonumber(cap) then return nil end
  local _, free = slots(queue)
  if free <= 0 then return nil end
  local place = redis.call('ZCARD', dispatched(queue)) + 1
  local virtual_time, finish_tag = unpack(redis.call('HMGET', sched(queue), 'now', 'last:' .. owner))
  local tag = math.max(virtual_time or 0, finish_tag or 0)
  redis.call('HSET', sched(queue), 'now', tag, 'last:' .. owner, tag + size)
  note_waiting(queue, owner, rank_of(priority, seq), seq)
  note_dispatch(queue, owner, ID)
  return place
end

-- Return the first flows: their owners, their start tags as they count for positions (see `catch_up`), and their
-- lengths without background jobs. They are ordered by start tag and owner. Among more than `count` flows, those that
-- are not ready or have only background jobs are left out.
local function first_flows(queue, count)
  local flows, names, ordered = {}, {}, true
  local many = redis.call('ZCARD', start_tags(queue)) > count
  local found = redis.call('ZRANGE', many and ready(queue) or start_tags(queue), 0, count - 1, 'WITHSCORES')
  if #found == 0 then return flows end
  for i = 1, #found, 2 do names[#names + 1] = found[i] end
  local virtual_time = tonumber(redis.call('HGET', sched(queue), 'now') or 0)
  local scores = many or redis.call('ZMSCORE', ready(queue), unpack(names))
  local flow_sizes = redis.call('ZMSCORE', flow_lengths(queue), unpack(names))
  for i, name in ipairs(names) do
    local tag = tonumber(found[2 * i])
    if not many and is_passed_over(scores[i]) then tag, ordered = math.max(tag, virtual_time), false end
    flows[i] = { owner = name, start_tag = tag, length = tonumber(flow_sizes[i] or 0) }
  end
  if ordered then return flows end
  table.sort(flows, function(a, b)
    if a.start_tag ~= b.start_tag then return a.start_tag < b.start_tag end
    return a.owner < b.owner
  end)
  return flows
end

-- Return the position of the job in hand among few flows, from 1, where `ahead_in_flow` jobs are ahead in its own one.
local function exact_position(queue, owner, ahead_in_flow)
  local flows, tag = first_flows(queue, EXACT_FLOWS), ahead_in_flow
  for _, it in ipairs(flows) do
    if it.owner == owner then tag = it.start_tag + ahead_in_flow end
  end
  local found = redis.call('ZCARD', dispatched(queue)) + ahead_in_flow + 1
  local background = ahead_in_flow >= foreground(queue, owner)
  for _, it in ipairs(flows) do
    if it.owner ~= owner then
      local first, ahead = it.length, tag - it.start_tag
      if it.owner < owner then ahead = ahead + 1 end
      if background then
        found = found + first
        ahead, first = ahead - first, redis.call('ZCARD', flow(queue, it.owner)) - first
      end
      if ahead > 0 then found = found + math.min(ahead, first) end
    end
  end
  return found
end

-- Return the number of jobs in all flows that have fewer than so many jobs ahead of them in their own flow. Each flow
-- has at most one job at each depth. From depth 16 on, depths are summed up in steps of an eighth.
local function jobs_above(queue, depth)
  local function flows_deeper_than(than)
    return redis.call('ZCOUNT', flow_lengths(queue), '(' .. string.format('%d', than), '+inf')
  end
  local sum, at = 0, 0
  while at < depth do
    local step = math.min(math.max(1, math.floor(at / 8)), depth - at)
    local flows = flows_deeper_than(at)
    if flows == 0 then break end
    sum = sum + (step == 1 and flows or (flows + flows_deeper_than(at + step - 1)) / 2 * step)
    at = at + step
  end
  return sum, flows_deeper_than(depth)
end

-- Estimate the position of the job in hand among many flows. The flows take turns, so the jobs of a smaller depth are
-- ahead, and those of the same depth whose flow has its turn before. How many of these there are is exact for the first
-- job of a flow. For others it is taken for a share of the flows that are long enough. A background job gets the last
-- position that it can have.
local function estimated_position(queue, owner, ahead_in_flow)
  if ahead_in_flow >= foreground(queue, owner) then
    local behind = redis.call('ZCARD', flow(queue, owner)) - ahead_in_flow - 1
    return redis.call('ZCARD', waiting(queue)) - behind
  end
  local above, flows = jobs_above(queue, ahead_in_flow)
  local before = redis.call('ZRANK', ready(queue), owner) or 0
  local others = math.max(1, redis.call('ZCOUNT', ready(queue), '-inf', string.format('%d', BACKGROUND_LAST / 2)))
  return redis.call('ZCARD', dispatched(queue)) + math.floor(above + flows * before / others) + 1
end

-- Return the position of the job in hand, from 1, or nil if it does not wait. Dispatched jobs come first, then the
-- flows by start tag. Jobs with the same start tag are ordered by their owners' names, as Redis orders members.
-- Background jobs of all flows come after all other jobs. With more than EXACT_FLOWS flows the position is estimated.
local function position(queue, owner)
  local rank = redis.call('ZRANK', dispatched(queue), ID)
  if rank then return rank + 1 end
  local ahead_in_flow = redis.call('ZRANK', flow(queue, owner), ID)
  if not ahead_in_flow then return nil end
  local few = redis.call('ZCARD', start_tags(queue)) <= EXACT_FLOWS
  return (few and exact_position or estimated_position)(queue, owner, ahead_in_flow)
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
