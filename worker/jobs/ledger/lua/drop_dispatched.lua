-- prefix, '', '', '', job id, queue → removes a job whose record this Redis has lost
--
-- The record named the owner, so all owners are tried.
for _, owner in ipairs(all_owners()) do
  leave_active(owner, ID)
  remove_waiting(ARGV[6], owner)
end
erase()
