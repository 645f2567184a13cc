"""The upgrade test: the last release is replaced by this one, piece by piece, under load, and back again."""
