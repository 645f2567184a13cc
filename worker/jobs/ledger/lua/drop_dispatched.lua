-- prefix, '', '', '', job id, queue → removes from the queue a job whose record this Redis has lost
--
-- The record named the owner, so all owners are tried.
local owners = redis.call('SMEMBERS', P .. ':keys')
owners[#owners + 1] = ''
for _, owner in ipairs(owners) do
  redis.call('SREM', active(owner), ID)
  remove_waiting(ARGV[6], owner)
end
