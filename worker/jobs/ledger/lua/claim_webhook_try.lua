-- … number of earlier tries, patience (s) → 1 if the caller may make this try at the job's webhook, else 0
--
-- The answer is 0 if the delivery is done or given up, or if another message has led to the same try. Recovery
-- sends another message if the try has had no outcome within the patience.
if not redis.call('ZSCORE', P .. ':webhooks', ID) then return 0 end
if redis.call('HGET', RECORD, 'webhook') ~= ARGV[6] then return 0 end
redis.call('HINCRBY', RECORD, 'webhook', 1)
redis.call('ZADD', P .. ':webhooks', clock() + ARGV[7], ID)
return 1
