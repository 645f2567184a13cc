-- prefix, interval (ms), process, seconds for which it stays a watcher → what recovery asks at each of its rounds: the time
-- (s), '1' if any job or webhook is not done yet, '1' if the caller may take the round, and then, for a watcher, each
-- worker with the end of its lease (s)
--
-- Each job that waits or runs has a deadline. While there is none, nobody takes a round. Only some processes are watchers,
-- because the cost of all rounds would grow with the square of the number of workers. If a watcher does not ask any
-- more, another process takes its place. A time that is too far ahead was written before the clock was set back.
local MOST_WATCHERS = 8
local watchers, now = P .. ':watchers', clock()
local until_s, longest = tonumber(redis.call('ZSCORE', watchers, ARGV[3]) or 0), now + ARGV[4] + 1
local watches = until_s > now and until_s <= longest
if not watches then
  redis.call('ZREMRANGEBYSCORE', watchers, '-inf', now)
  redis.call('ZREMRANGEBYSCORE', watchers, longest, '+inf')
  watches = redis.call('ZCARD', watchers) < MOST_WATCHERS
end
if watches then redis.call('ZADD', watchers, now + ARGV[4], ARGV[3]) end
local undone = redis.call('EXISTS', DEADLINES, WEBHOOKS, WEBHOOK_TURNS) > 0
local first = watches and undone and take_round('tick', ARGV[2]) == -1
local reply = { string.format('%.6f', now), undone and '1' or '', first and '1' or '' }
if not watches then return reply end
for _, each in ipairs(redis.call('ZRANGE', WORKERS, 0, -1, 'WITHSCORES')) do reply[#reply + 1] = each end
return reply
