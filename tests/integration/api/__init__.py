"""Tests of the native API under gunicorn, with a scripted worker."""
