"""The lane: many jobs at once in one solo worker, and its binding to Celery."""
