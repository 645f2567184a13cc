-- prefix, queue → notes that a worker serves the model of this queue now
see_model(ARGV[2])
