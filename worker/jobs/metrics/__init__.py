"""The metrics: what Stoker counts and measures, and the names under which Redis holds the values."""
