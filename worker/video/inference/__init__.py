"""Inference: the model and its buffers on the device, one batch at a time."""
