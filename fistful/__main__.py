"""`python -m fistful` is the command line."""

from fistful.cli import main

main()
