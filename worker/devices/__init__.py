"""The devices: which GPUs there are, which one this worker leases, and what is in their memory."""
