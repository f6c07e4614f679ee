"""`python -m graphopt` is the command line, too."""

from graphopt.cli.app import main

main()
