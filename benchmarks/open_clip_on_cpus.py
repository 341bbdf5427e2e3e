"""open_clip_train on CPUs in several processes: its own main, unmodified.

It hands the CPU to DistributedDataParallel as a device number, which torch refuses; here that argument is left out.
"""

from __future__ import annotations

import sys
from typing import Any

from torch.nn import parallel

Theirs = parallel.DistributedDataParallel


class WithoutDevices(Theirs):
    """DistributedDataParallel of a module on a CPU."""

    def __init__(self, module: Any, **more: Any) -> None:
        super().__init__(module, **{name: value for name, value in more.items() if name != "device_ids"})


if __name__ == "__main__":
    from open_clip_train.main import main

    parallel.DistributedDataParallel = WithoutDevices  # pyright: ignore[reportPrivateImportUsage]
    main(sys.argv[1:])
