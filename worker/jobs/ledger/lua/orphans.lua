-- prefix, age (s), ids of all jobs that have files and no record → those that have been so for this age
--
-- Each call notes the ids that are new, and drops those that are missing. The times of files do not count, because
-- they come from the clocks of hosts or of the media store.
local key, now, given, old = P .. ':orphans', clock(), {}, {}
for i = 3, #ARGV do
  local since = math.min(redis.call('ZSCORE', key, ARGV[i]) or now, now)
  given[ARGV[i]] = true
  redis.call('ZADD', key, since, ARGV[i])
  if since <= now - ARGV[2] then old[#old + 1] = ARGV[i] end
end
for _, id in ipairs(redis.call('ZRANGE', key, 0, -1)) do
  if not given[id] then redis.call('ZREM', key, id) end
end
return old
