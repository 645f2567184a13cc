"""Encoding: finished H.264 segments, and the MP4 file that joins them with the clip's sound."""
