-- … tries before this one, patience (s) → 1 when this try at the job's webhook is the caller's: it is not done yet, and
-- no other message has led to this try. Recovery hints at it again when nobody has reported within the patience.
if not redis.call('ZSCORE', P .. ':webhooks', ID) then return 0 end
if redis.call('HGET', RECORD, 'webhook') ~= ARGV[6] then return 0 end
redis.call('HINCRBY', RECORD, 'webhook', 1)
redis.call('ZADD', P .. ':webhooks', clock() + ARGV[7], ID)
return 1
