"""Tests of /openapi.json."""
