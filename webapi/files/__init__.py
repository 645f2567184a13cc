"""The files that clients upload for batches, and those that batches write."""
