"""`python -m fistful.pipelines count|bags|vectors|label|embed ...` is the batch job: the same verbs, the same options."""

import sys

from fistful.cli import main

if __name__ == "__main__":
    if sys.argv[1:2] and sys.argv[1] not in ("count", "bags", "vectors", "label", "embed", "--help", "-h"):
        sys.exit(f"fistful: {sys.argv[1]} is no batch job; expected count, bags, vectors, label or embed")
    main()
