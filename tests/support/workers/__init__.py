"""Celery apps of workers whose models are scripted, such as `celery -A tests.support.workers.fake worker`."""
