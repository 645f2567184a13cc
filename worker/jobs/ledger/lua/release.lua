-- prefix, worker, only_lapsed ('1' or ''): takes the worker off the list. If it still has jobs, only its lease
-- ends, at once, for recovery to find them.
local worker = ARGV[2]
if ARGV[3] == '1' and holds_lease(worker) then return end
redis.call('HDEL', P .. ':worker:cards', worker)
if redis.call('SCARD', worker_jobs(worker)) == 0 then
  redis.call('ZREM', WORKERS, worker)
else
  redis.call('ZADD', WORKERS, 0, worker)
end
