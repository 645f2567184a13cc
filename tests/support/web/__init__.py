"""An API server, its clients and a scripted worker."""
