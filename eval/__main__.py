"""The evaluation script: `python -m fistful.eval MODEL... --data SET... --out R` is `fistful evaluate`."""

from __future__ import annotations

import sys

from fistful.cli import main

if __name__ == "__main__":
    sys.exit(main(["evaluate", *sys.argv[1:]]))
