"""The models that a video job can run: those of Stoker, and the ways to bring others."""
