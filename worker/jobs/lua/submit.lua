-- … max_waiting, max_queue (s), timeout (s), kind, queue, spec, owner, webhook ('1' or '') → position in the queue, or -1: it is full
if redis.call('EXISTS', RECORD) == 1 then return 0 end -- a retry after a lost reply
local max_waiting, max_queue, timeout, kind, queue, spec, owner, webhook = unpack(ARGV, 6, 13)
if redis.call('ZCARD', waiting(queue)) >= tonumber(max_waiting) then return -1 end
local seq = redis.call('INCR', P .. ':seq')
redis.call('HSET', RECORD, 'kind', kind, 'queue', queue, 'spec', spec, 'owner', owner, 'state', 'queued', 'seq', seq,
  'created_at', NOW, 'attempt', 0, 'timeout_s', timeout)
if webhook == '1' then redis.call('HSET', RECORD, 'webhook', 0) end -- so often was its end delivered
redis.call('ZADD', P .. ':jobs', seq, ID)
redis.call('SADD', P .. ':queues', queue)
redis.call('ZADD', waiting(queue), seq, ID)
redis.call('ZADD', DEADLINES, clock() + max_queue, ID)
local position = redis.call('ZCARD', waiting(queue))
emit('queued', 0, '{"position":' .. position .. '}')
return position
