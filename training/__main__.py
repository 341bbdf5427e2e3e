"""`python -m fistful.training`: the verb `train`."""

from __future__ import annotations

import sys

from fistful.cli import main

if __name__ == "__main__":
    main(["train", *sys.argv[1:]])
