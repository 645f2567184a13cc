-- … → 1 if the job was deleted, 0 if it has not ended
local state, owner, idempotency_key = unpack(redis.call('HMGET', RECORD, 'state', 'owner', 'once'))
if state == 'queued' or state == 'running' then return 0 end
redis.call('DEL', RECORD, LOG)
if idempotency_key then redis.call('DEL', idempotency_key) end
if owner then
  redis.call('ZREM', P .. ':owner:' .. owner .. ':jobs', ID)
  redis.call('ZREM', undelivered(owner), ID)
end
redis.call('ZREM', P .. ':jobs', ID)
redis.call('ZREM', P .. ':finished', ID)
redis.call('ZREM', P .. ':webhooks', ID)
redis.call('HDEL', WEBHOOKS_ACTIVE, ID)
return 1
