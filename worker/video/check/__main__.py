"""`python -m worker.video.check` is `stoker check`."""

from worker.video.check.command import main

main(prog_name="stoker check")
