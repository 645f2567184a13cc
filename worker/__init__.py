"""The GPU workers of Stoker, and `worker.jobs`, the code that they share with the API."""
