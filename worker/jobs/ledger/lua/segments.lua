-- Segments: the parts of a running video. Idle workers of its queue may compute them, too.
--
-- The owner is the attempt that runs the job. It offers the segments under the name of its claim, numbered from 0.
-- The hash `segments` of the job has the fields:
--   claim         the claim of the owner
--   plan          what a worker must know to compute a segment (JSON)
--   count, first  the number of segments, and the first one whose events are not logged
--   <number>      who computes the segment, or 'done'; a free segment has no field
-- Each segment is computed at least once. Two workers may compute one, because a worker that looks dead may be alive.
-- Both make the same frames in files of their own, so that does no harm.
local DONE = 'done'

local function segments() return CHANNEL .. ':segments' end
local function offered(queue) return P .. ':queue:' .. queue .. ':offered' end

-- End the help with the job in hand, whose attempt is over.
local function withdraw_segments(queue)
  redis.call('DEL', segments())
  redis.call('SREM', offered(queue), ID)
end

-- Return who computes each segment that is not free, by its number.
local function assignments()
  local found, fields = {}, redis.call('HGETALL', segments())
  for i = 1, #fields, 2 do
    local number = tonumber(fields[i])
    if number then found[number] = fields[i + 1] end
  end
  return found
end

-- Give the worker a segment, and return its number, or nil if none is free. A segment is free if its worker has lost
-- its lease. `held` are the numbers that the worker has. One more that it has here is the answer to the same request
-- before, whose reply was lost. With `steal` the worker may also get a segment that another live one computes.
local function take_segment(worker, held, steal)
  local first, count = unpack(redis.call('HMGET', segments(), 'first', 'count'))
  local by, stolen = assignments(), nil
  for number, name in pairs(by) do
    if name == worker and not held[number] and number >= tonumber(first) then return number end
  end
  for number = tonumber(first), tonumber(count) - 1 do
    local name = by[number]
    if not name or name ~= DONE and name ~= worker and not holds_lease(name) then
      redis.call('HSET', segments(), number, worker)
      return number
    end
    if name ~= DONE and name ~= worker then stolen = stolen or number end
  end
  if steal and stolen then
    redis.call('HSET', segments(), stolen, worker)
    return stolen
  end
end

-- Return the set of `count` numbers among the arguments, from the one at this index on.
local function numbers(at, count)
  local found = {}
  for i = at, at + count - 1 do found[tonumber(ARGV[i])] = true end
  return found
end
