-- prefix, worker, only_lapsed ('1' or '') → removes the worker from the registry
--
-- If the worker still has jobs, its card goes and its lease ends now, so that recovery finds the jobs. With
-- only_lapsed, nothing happens while the worker holds its lease.
local worker = ARGV[2]
if ARGV[3] == '1' and holds_lease(worker) then return end
redis.call('HDEL', P .. ':worker:cards', worker)
if redis.call('SCARD', worker_jobs(worker)) == 0 then
  redis.call('ZREM', WORKERS, worker)
else
  redis.call('ZADD', WORKERS, 0, worker)
end
