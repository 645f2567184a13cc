-- prefix, '', '', '', '', queue, owner, max_waiting → 'queue' or 'key' if no more jobs may wait there, or nothing
return no_room(unpack(ARGV, 6, 8))
