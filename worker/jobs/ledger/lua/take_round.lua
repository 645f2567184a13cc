-- prefix, task, interval (ms) → -1 if the caller may take a round of the task; if one was taken in the interval, the time
-- until the next one (ms)
return take_round(ARGV[2], ARGV[3])
