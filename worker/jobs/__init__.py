"""The contract between the API and the workers; imports neither torch nor flask."""
