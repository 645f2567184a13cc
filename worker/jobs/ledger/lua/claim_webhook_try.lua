-- … number of earlier tries, patience (s) → 1 if the caller may make this try at the job's webhook, else 0
--
-- The answer is 0 if the delivery is done or given up, or if another message has led to the same try. Recovery
-- sends another message if the try has had no outcome within the patience.
local owner, tried, host = unpack(redis.call('HMGET', RECORD, 'owner', 'webhook', 'webhook_host'))
if tried ~= ARGV[6] or not redis.call('ZSCORE', undelivered(owner), ID) then return 0 end
redis.call('HINCRBY', RECORD, 'webhook', 1)
start_webhook_try(owner, host, ARGV[7])
return 1
