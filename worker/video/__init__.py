"""Video: decode, pad to one batch shape, run the model, composite, encode."""
