"""Decoding: from an uploaded clip to upright frames with their times."""
