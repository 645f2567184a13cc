"""Connections to Redis, to one server or through Sentinels, for the ledger and for Celery."""
