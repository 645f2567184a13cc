-- prefix, limits of the tries in flight (in all, for one owner, to one host), limit of an owner's undelivered
-- webhooks, patience (s), Celery queue and task → pushes a message for each webhook to try now, and returns the ids of
-- the jobs whose webhooks were given up, because their owner has too many
--
-- A message is the retry with the number of the earlier tries. A second message for the same try claims nothing.
--
-- Owners get equal turns: each gets one try before any of them gets the next. An owner with n tries in flight gets
-- another one only while more than n are free, so that some are always left for others (the dynamic threshold of
-- Choudhury and Hahne). One call reads a bounded part of what is due: BATCH new webhooks, BATCH owners, and the
-- first AHEAD webhooks of an owner.
local BATCH, AHEAD = 500, 100
local at_once, owner_at_once, host_at_once, max_due, patience = unpack(ARGV, 2, 6)
local celery_queue, task = ARGV[7], ARGV[8]
local messages, now = redis.call('LLEN', P .. ':celery:' .. celery_queue), clock()
at_once, owner_at_once, host_at_once = tonumber(at_once), tonumber(owner_at_once), tonumber(host_at_once)
local held, owners, hosts, all = {}, {}, {}, 0 -- tries in flight: their jobs, and how many each owner and host has

local function hold(id, owner, host)
  held[id], all = true, all + 1
  owners[owner], hosts[host] = (owners[owner] or 0) + 1, (hosts[host] or 0) + 1
end

-- Read the tries in flight, and drop those that are lost. While messages wait, no sender takes them: then no try is
-- lost, and further messages would only pile up.
local function read_active()
  local active = redis.call('HGETALL', WEBHOOKS_ACTIVE)
  for i = 1, #active, 2 do
    local ends, owner, host = string.match(active[i + 1], '^(%S+) (%S*) (.*)$')
    if messages == 0 and tonumber(ends) <= now then
      redis.call('HDEL', WEBHOOKS_ACTIVE, active[i])
    else
      hold(active[i], owner, host)
    end
  end
end

-- Give up one webhook if the owner has too many: the one whose next try is furthest away.
local function give_up_excess(owner, given_up)
  if redis.call('ZCARD', undelivered(owner)) <= tonumber(max_due) then return end
  for _, id in ipairs(redis.call('ZREVRANGE', undelivered(owner), 0, at_once)) do
    if not held[id] then
      redis.call('ZREM', undelivered(owner), id)
      count('stoker_webhook_deliveries_total', 'dropped')
      given_up[#given_up + 1] = id
      return
    end
  end
end

-- Give the webhooks of newly ended jobs to their owners.
local function sort_new()
  local given_up, new = {}, redis.call('ZRANGE', WEBHOOKS, 0, BATCH - 1, 'WITHSCORES')
  for i = 1, #new, 2 do
    use_job(new[i])
    local owner = redis.call('HGET', RECORD, 'owner')
    if owner then
      redis.call('ZADD', undelivered(owner), new[i + 1], ID)
      redis.call('ZADD', WEBHOOK_TURNS, 'NX', 0, owner) -- an owner without webhooks is next
      give_up_excess(owner, given_up)
    end
    redis.call('ZREM', WEBHOOKS, ID)
  end
  return given_up
end

local due = {} -- owner -> ids of the webhooks that are due and were not looked at yet

-- Take the owner's first due webhook that the limits allow, and return the number of its earlier tries.
local function take(owner, room)
  due[owner] = due[owner] or redis.call('ZRANGEBYSCORE', undelivered(owner), '-inf', now, 'LIMIT', 0, AHEAD)
  while (owners[owner] or 0) < math.min(owner_at_once, room) and #due[owner] > 0 do
    use_job(table.remove(due[owner], 1))
    local tried, host = unpack(redis.call('HMGET', RECORD, 'webhook', 'webhook_host'))
    if not tried then -- this Redis has lost data
      redis.call('ZREM', undelivered(owner), ID)
    elseif not held[ID] and (hosts[host or ''] or 0) < host_at_once then
      hold(ID, owner, host or '')
      start_webhook_try(owner, host, patience)
      return tried
    end
  end
end

read_active()
local given_up, served = sort_new(), true
local room = at_once - math.max(all, messages)
local turns = redis.call('ZRANGE', WEBHOOK_TURNS, 0, BATCH - 1)
while served do
  served = false
  for _, owner in ipairs(turns) do
    if room <= 0 then return given_up end
    local tried = take(owner, room)
    if tried then
      push(celery_queue, task, ID .. ':' .. tried, ID, tried, 'null')
      room, served = room - 1, true
    end
    redis.call('ZADD', WEBHOOK_TURNS, now, owner)
    if redis.call('EXISTS', undelivered(owner)) == 0 then redis.call('ZREM', WEBHOOK_TURNS, owner) end
  end
end
return given_up
