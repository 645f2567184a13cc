"""One clip over several workers: its segments, who computes them, and their reports."""
