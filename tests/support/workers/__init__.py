"""Celery apps of workers with scripted models: `celery -A tests.support.workers.fake`."""
