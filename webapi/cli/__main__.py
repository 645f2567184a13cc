"""`python -m webapi.cli` runs the command line."""

from webapi.cli.main import main

main()
