-- prefix, '', '', '', job id, queue → removes a job whose record this Redis has lost
local owner = owner_of_lost()
leave_active(owner, ID)
remove_waiting(ARGV[6], owner)
erase()
