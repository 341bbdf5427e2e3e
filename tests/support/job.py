"""Both data jobs on small real input, run as a process: `python -m tests.support.job INPUTS... OUT`.

The options stand in the environment, so that a process can be told to die at its n-th rename.
"""

from __future__ import annotations

import gzip
import os
import signal
import sys
from pathlib import Path

from fistful.bow.balance import Balance
from fistful.errors import FistfulError
from fistful.pipelines.bags import BagsConfig, bags
from fistful.pipelines.count import CountConfig, count
from fistful.pipelines.engine.stage import Running
from fistful.pipelines.read.plan import PlanOptions
from fistful.pipelines.read.sources import SourceOptions

PLAN = PlanOptions(unit_mb=0.02)
SOURCE = SourceOptions(caption="2")


def make_inputs(folder: Path, data_root: Path) -> list[Path]:
    """Real captions, some spoilt, as a TSV of several units beside a compressed one and a CSV."""
    folder.mkdir(parents=True)
    with gzip.open(data_root / "captions" / "flickr30k.token.gz") as file:
        lines = [next(file) for _ in range(2_400)]
    lines[5], lines[700], lines[1_500] = b"torn\n", b"id\t\n", b"id\tcaf\xe9\n"
    first, second, third = folder / "erste-é.tsv", folder / "b.tsv.gz", folder / "c.csv"
    first.write_bytes(b"".join(lines[:1_600]))
    second.write_bytes(gzip.compress(b"".join(lines[1_600:2_000]), mtime=0))
    third.write_bytes(b"".join(b'1,"%s"\n' % line.rstrip().split(b"\t")[-1].replace(b'"', b'""') for line in lines[2_000:]))
    return [first, second, third]


def run_job(inputs: list[Path], out: Path | str, workers: int = 1) -> None:
    """Count, then make bags; `out` is a folder, or a URL in a store."""
    running, sources = Running(workers=workers, progress=False), [str(path) for path in inputs]
    count(*sources, out=f"{out}/counts", config=CountConfig(plan=PLAN, source=SOURCE, running=running))
    config = BagsConfig(plan=PLAN, source=SOURCE, balance=Balance(rule="cap", kept=0.5), running=running)
    bags(*sources, counts=f"{out}/counts", out=f"{out}/bags", config=config)


def die_at_write(n: int, after: bool) -> None:
    """Die of SIGKILL at the n-th rename of this process, before or after it happens."""
    rename, seen = os.replace, []

    def replace(source: str, target: str) -> None:
        seen.append(target)
        if len(seen) == n and not after:
            os.kill(os.getpid(), signal.SIGKILL)
        rename(source, target)
        if len(seen) == n:
            os.kill(os.getpid(), signal.SIGKILL)

    os.replace = replace


if __name__ == "__main__":
    if "DIE_AT" in os.environ:
        die_at_write(int(os.environ["DIE_AT"]), bool(os.environ.get("DIE_AFTER")))
    *given, target = map(Path, sys.argv[1:])
    try:
        run_job(given, target, int(os.environ.get("WORKERS", "1")))
    except FistfulError as error:
        print(error)
        sys.exit(error.exit_code)
