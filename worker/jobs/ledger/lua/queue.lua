-- Who of the waiting is next. An owner's jobs stand in a line of their own, by priority and age; between the
-- lines turns are dealt by start-time fair queueing (Goyal, Vin and Cheng, SIGCOMM 1996), each job at cost 1:
-- the j-th job of a line has the tag turn + j, the smallest tag is next, and a line that was empty begins at the
-- tag of the job that was called last. Only as many jobs are called (have a Celery message) as slots are free,
-- so that one that comes later, from another owner, need not wait behind a flood of messages.
local CLASS = 2 ^ 40 -- of a priority; within one the `seq` decides

local function called(queue) return P .. ':queue:' .. queue .. ':called' end
local function turns(queue) return P .. ':queue:' .. queue .. ':turns' end
local function fair(queue) return P .. ':queue:' .. queue .. ':fair' end
local function line(queue, owner) return P .. ':queue:' .. queue .. ':line:' .. owner end
-- An owner's jobs that are called or run, and those that wait, in all queues.
local function active(owner) return P .. ':owner:' .. owner .. ':active' end
local function pending(owner) return P .. ':owner:' .. owner .. ':waiting' end

local function moved(queue) redis.call('HINCRBY', fair(queue), 'version', 1) end

-- `again`: with the turn that it had.
local function stand_in_line(queue, owner, id, rank, again)
  redis.call('ZADD', line(queue, owner), rank, id)
  if not redis.call('ZSCORE', turns(queue), owner) then
    local now, last = unpack(redis.call('HMGET', fair(queue), 'now', 'last:' .. owner))
    redis.call('ZADD', turns(queue), math.max(now or 0, last or 0), owner)
  end
  if again then redis.call('ZINCRBY', turns(queue), -1, owner) end
end

-- Put the job into its owner's line. `again`: it was there before, and gets its turn back, ahead of all others.
local function enqueue(queue, owner, priority, seq, again)
  redis.call('ZADD', waiting(queue), seq, ID)
  redis.call('SADD', pending(owner), ID)
  local rank = ((again and -1 or 9 - priority) * CLASS) + seq
  redis.call('HSET', RECORD, 'rank', string.format('%d', rank))
  stand_in_line(queue, owner, ID, rank, again)
  moved(queue)
end

local function leave_line(queue, owner, id)
  if redis.call('ZREM', line(queue, owner), id) == 0 or redis.call('EXISTS', line(queue, owner)) == 1 then return end
  redis.call('HSET', fair(queue), 'last:' .. owner, redis.call('ZSCORE', turns(queue), owner))
  redis.call('ZREM', turns(queue), owner)
end

-- The job waits no longer.
local function leave(queue, owner)
  redis.call('ZREM', waiting(queue), ID)
  redis.call('SREM', pending(owner), ID)
  if redis.call('ZREM', called(queue), ID) == 1 then redis.call('SREM', active(owner), ID) end
  leave_line(queue, owner, ID)
  moved(queue)
end

-- One of the owner's jobs goes; the tag of the turn that it takes.
local function take_turn(queue, owner)
  local tag = redis.call('ZINCRBY', turns(queue), 1, owner) - 1
  redis.call('HSET', fair(queue), 'now', math.max(redis.call('HGET', fair(queue), 'now') or 0, tag))
  return tag
end

-- Slots of the queue's ready workers, and those of them that are free and for which no job is called yet.
local function slots(queue)
  local all, free = 0, -redis.call('ZCARD', called(queue))
  local cards = redis.call('HGETALL', P .. ':worker:cards')
  for i = 1, #cards, 2 do
    local card = cjson.decode(cards[i + 1])
    if card.queue == queue and card.state == 'ready' then
      all = all + card.slots
      free = free + math.max(0, card.slots - redis.call('SCARD', worker_jobs(cards[i])))
    end
  end
  return all, free
end

-- Call the next job, passing over owners who run as many as they may; its id, or nothing. Those save no turns
-- meanwhile: otherwise they would have all slots for as long, once they may.
local function call(queue)
  local passed = {}
  for _, owner in ipairs(redis.call('ZRANGE', turns(queue), 0, -1)) do
    local cap = redis.call('HGET', P .. ':key:' .. owner, 'max_running')
    if cap and redis.call('SCARD', active(owner)) >= tonumber(cap) then
      passed[#passed + 1] = owner
    else
      local id = redis.call('ZRANGE', line(queue, owner), 0, 0)[1]
      if redis.call('EXISTS', P .. ':job:{' .. id .. '}:record') == 0 then -- this Redis has lost data
        about(id)
        leave(queue, owner)
        return call(queue)
      end
      local tag = take_turn(queue, owner)
      leave_line(queue, owner, id)
      for _, other in ipairs(passed) do redis.call('ZADD', turns(queue), 'GT', tag, other) end
      local last = redis.call('HGET', fair(queue), 'called') or 0
      local at = string.format('%.6f', math.max(clock(), last + 1e-6)) -- their order is that of their times
      redis.call('HSET', fair(queue), 'called', at)
      redis.call('ZADD', called(queue), at, id)
      redis.call('SADD', active(owner), id)
      return id
    end
  end
end

-- Slots have gone, with a worker that drains, say: send back to its line who was called last. Its message is a
-- hint too many then. Who waits for a worker to be alone is there already.
local function send_back(queue)
  for _, id in ipairs(redis.call('ZRANGE', called(queue), 0, -1, 'REV')) do
    local record = P .. ':job:{' .. id .. '}:record'
    local owner, rank, apart = unpack(redis.call('HMGET', record, 'owner', 'rank', 'apart'))
    if owner and not apart then
      redis.call('ZREM', called(queue), id)
      redis.call('SREM', active(owner), id)
      stand_in_line(queue, owner, id, rank, true)
      local now, tag = redis.call('HGET', fair(queue), 'now'), redis.call('ZSCORE', turns(queue), owner)
      redis.call('HSET', fair(queue), 'now', math.min(now, tag))
      moved(queue)
      return true
    end
  end
end

-- Call as many jobs as slots are free; their ids.
local function call_all(queue)
  local _, free = slots(queue)
  while free < 0 and send_back(queue) do free = free + 1 end
  local ids = {}
  while #ids < free do
    local id = call(queue)
    if not id then break end
    ids[#ids + 1] = id
  end
  return ids
end

-- The waiting job's place, from 1.
local function position(queue, owner)
  local rank = redis.call('ZRANK', called(queue), ID)
  if rank then return rank + 1 end
  local place = redis.call('ZRANK', line(queue, owner), ID)
  if not place then return nil end
  local tag = redis.call('ZSCORE', turns(queue), owner) + place
  local found = redis.call('ZCARD', called(queue)) + place + 1
  local others = redis.call('ZRANGE', turns(queue), 0, -1, 'WITHSCORES')
  for i = 1, #others, 2 do
    local other, ahead = others[i], tag - others[i + 1]
    if other ~= owner then
      if other < owner then ahead = ahead + 1 end
      if ahead > 0 then found = found + math.min(ahead, redis.call('ZCARD', line(queue, other))) end
    end
  end
  return found
end

-- Until the job at this place starts, in seconds: its slot is free, or `place` jobs must end before, of which
-- the slots end one each in the time that one takes (a moving average). '' if nothing was measured.
local function estimate(queue, place)
  local all, free = slots(queue)
  if place <= free + redis.call('ZCARD', called(queue)) then return '0' end
  local service = redis.call('HGET', P .. ':service', queue)
  return all > 0 and service and string.format('%.3f', place * service / all) or ''
end

-- Log the waiting job's place.
local function tell(place, attempt)
  redis.call('HSET', RECORD, 'place', place, 'told_at', string.format('%.3f', clock()))
  emit('queued', attempt, '{"position":' .. place .. '}')
end

-- Whether no more jobs may wait, in the queue or of this owner.
local function no_room(queue, owner, max_waiting)
  if redis.call('ZCARD', waiting(queue)) >= tonumber(max_waiting) then return 'queue' end
  local cap = redis.call('HGET', P .. ':key:' .. owner, 'max_waiting')
  if cap and redis.call('SCARD', pending(owner)) >= tonumber(cap) then return 'key' end
end
