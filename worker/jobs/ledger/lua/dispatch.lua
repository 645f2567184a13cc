-- prefix, queue → ids of the jobs that are now dispatched, as many as slots are free
return dispatch_all(ARGV[2])
