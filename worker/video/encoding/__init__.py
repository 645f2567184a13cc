"""Encoding: finished segments of H.264, and the file that joins them with the sound."""
