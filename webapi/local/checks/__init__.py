"""The checks of `stoker doctor`."""
