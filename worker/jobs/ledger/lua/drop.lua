-- prefix, '', '', '', job id, queue: takes an id off the queue that is no job's
local owners = redis.call('SMEMBERS', P .. ':keys')
owners[#owners + 1] = ''
for _, owner in ipairs(owners) do
  redis.call('SREM', active(owner), ID)
  leave(ARGV[6], owner)
end
