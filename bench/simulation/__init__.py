"""A simulation of large installations: what their clients wait for, and what their Redis has to do."""
