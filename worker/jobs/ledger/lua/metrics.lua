-- Metrics: counters and histograms of all processes in one hash. `worker/jobs/metrics` lists them, and makes the
-- function `boundaries`, which returns the upper bounds of a histogram.
local METRICS = P .. ':metrics'

-- Return the field of these parts, as `Metric.field` does in Python.
local function field(...)
  local parts = { ... }
  for i, part in ipairs(parts) do
    if string.find(part, '[%% ]') then parts[i] = string.gsub(string.gsub(part, '%%', '%%25'), ' ', '%%20') end
  end
  return table.concat(parts, ' ')
end

local function raise(by, ...) redis.call('HINCRBY', METRICS, field(...), by) end

-- Add 1 to the series of a counter.
local function count(counter, ...) raise(1, counter, ...) end

-- Add a time (s) to the series of a histogram. A negative one counts as 0: a clock was set back.
local function observe(histogram, seconds, ...)
  local part
  seconds = math.max(0, seconds)
  for _, boundary in ipairs(boundaries(histogram)) do
    part = boundary
    if boundary == '+Inf' or seconds <= tonumber(boundary) then break end
  end
  raise(1, histogram, part, ...)
  raise(string.format('%.0f', seconds * 1e6), histogram, 'sum', ...)
end
