"""Colours: what a clip's numbers mean, and their conversion to the RGB that the model and the encoder use."""
