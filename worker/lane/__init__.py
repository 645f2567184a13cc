"""The lane, which runs many jobs at once in one solo worker, and its binding to Celery."""
