"""Unit tests of the lane, the runs, the process and the devices of a worker."""
