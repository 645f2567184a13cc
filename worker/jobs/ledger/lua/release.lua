-- prefix, worker, end of its lease (or '') → removes the worker from the registry
--
-- If the worker still has jobs, its card goes and its lease ends now, so that recovery finds the jobs. Nothing
-- happens if the worker has renewed its lease since it had this end.
local worker = ARGV[2]
if renewed_since(worker, ARGV[3]) then return end
redis.call('HDEL', CARDS, worker)
enter_room(worker)
announce('models')
redis.call('SREM', DRAINING, worker)
if redis.call('SCARD', worker_jobs(worker)) == 0 then
  redis.call('ZREM', WORKERS, worker)
else
  redis.call('ZADD', WORKERS, 0, worker)
end
