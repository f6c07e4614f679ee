"""`python -m graphopt` is the command line, too."""

from graphopt.cli.start import main

main()
