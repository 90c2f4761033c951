"""`python -m ocirun`: the command line."""

from ocirun.cli.entry import main

main()
