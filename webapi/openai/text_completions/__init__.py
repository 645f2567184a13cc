"""The route `/v1/completions`: the model continues a text, without a chat template."""
