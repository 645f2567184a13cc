"""Traces: the place of jobs in the traces of clients, and the spans that the API makes."""
