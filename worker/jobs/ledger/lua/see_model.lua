-- prefix, queue → notes that a worker serves the model of this queue now, and announces the model
see_model(ARGV[2])
announce('models')
