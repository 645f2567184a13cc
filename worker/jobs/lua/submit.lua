-- … max_waiting, kind, queue, spec → position in the queue, or -1: the queue is full
if redis.call('EXISTS', RECORD) == 1 then return 0 end -- a retry after a lost reply
local max_waiting, kind, queue, spec = tonumber(ARGV[6]), ARGV[7], ARGV[8], ARGV[9]
if redis.call('ZCARD', waiting(queue)) >= max_waiting then return -1 end
local seq = redis.call('INCR', P .. ':seq')
redis.call('HSET', RECORD, 'kind', kind, 'queue', queue, 'spec', spec, 'state', 'queued', 'seq', seq,
  'created_at', NOW, 'attempt', 0)
redis.call('ZADD', P .. ':jobs', seq, ID)
redis.call('SADD', P .. ':queues', queue)
redis.call('ZADD', waiting(queue), seq, ID)
local position = redis.call('ZCARD', waiting(queue))
emit('queued', 0, '{"position":' .. position .. '}')
return position
