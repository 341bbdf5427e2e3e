"""`python -m fistful` is the command line."""

from .cli import main

main()
