"""Runs the command line, as `python -m webapi.cli`."""

from webapi.cli.main import main

main()
