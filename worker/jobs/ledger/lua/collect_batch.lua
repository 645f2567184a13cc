-- prefix, batch id, number of the parts that the caller knows, name of a new part, number of requests that have
-- completed and that have failed, the four numbers of tokens of their usage, then the numbers of the requests, from 0
-- → 1 if the part is added, 0 if another process has added one meanwhile
local key = P .. ':batch:' .. ARGV[2]
if redis.call('LLEN', key .. ':parts') ~= tonumber(ARGV[3]) then return 0 end
redis.call('RPUSH', key .. ':parts', ARGV[4])
for i, name in ipairs({ 'completed', 'failed', 'input_tokens', 'cached_tokens', 'output_tokens', 'reasoning_tokens' }) do
  redis.call('HINCRBY', key, name, ARGV[4 + i])
end
for i = 11, #ARGV do redis.call('SETBIT', key .. ':done', ARGV[i], 1) end
return 1
