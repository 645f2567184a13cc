"""Video jobs: decode a clip, pad batches to one shape, run the model, composite, and encode."""
