"""The page at `/`: its route, and in `static` its files, which use the public API only."""
