"""Dispatch: Celery messages that bring waiting jobs to workers, and the recovery of what is lost."""
