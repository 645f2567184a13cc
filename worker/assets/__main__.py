"""`python -m worker.assets` is `stoker models`."""

from worker.assets.command import main

main()
