"""Dispatch of waiting jobs by Celery messages, and recovery from lost messages and workers."""
