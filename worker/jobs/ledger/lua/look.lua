-- prefix, interval (ms) → what recovery asks at each of its rounds: the time (s), '1' if any job or webhook is not done
-- yet, '1' if the caller may take the round, and then each worker with the end of its lease (s)
--
-- Each job that waits or runs has a deadline. While there is none, nobody takes a round.
local undone = redis.call('ZCARD', DEADLINES) > 0 or redis.call('EXISTS', WEBHOOKS, WEBHOOK_TURNS) > 0
local first = undone and take_round('tick', ARGV[2]) == -1
local reply = { string.format('%.6f', clock()), undone and '1' or '', first and '1' or '' }
for _, each in ipairs(redis.call('ZRANGE', WORKERS, 0, -1, 'WITHSCORES')) do reply[#reply + 1] = each end
return reply
