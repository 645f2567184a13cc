-- prefix, queue → ids of the jobs to hint at
return call_all(ARGV[2])
