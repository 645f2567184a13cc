"""Decoding: upright RGB frames of an uploaded clip, with their timestamps."""
