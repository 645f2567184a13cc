"""The contract between the API and the workers. It imports neither torch nor Flask."""
