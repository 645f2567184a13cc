-- prefix, '', '', '', '', queue, owner, max_waiting → 'queue' if the queue is full, 'key' if the owner may have no
-- more waiting jobs, nothing if there is room
return full(unpack(ARGV, 6, 8))
