"""The worker that delivers webhooks, and the check of the addresses to which it may connect."""
