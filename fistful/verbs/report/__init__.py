"""`report`: runs, results and data in, one self-contained page out.

>>> report("demo-out", out="demo-out/report.html")  # doctest: +SKIP
PosixPath('demo-out/report.html')

Each folder says by its config.json what it is; a folder of such folders stands for all of them.
"""

from __future__ import annotations

from pathlib import Path

from .report_config import ReportConfig

__all__ = ["ReportConfig", "report"]

DEFAULTS = ReportConfig()


def report(
    *folders: str, out: str | Path, results: tuple[str, ...] = (), data: tuple[str, ...] = (), config: ReportConfig = DEFAULTS
) -> Path:
    """Write one HTML page that shows what was trained, on which words, and what came of it.

    Args:
        folders: Folders of train, evaluate, quiz, bags, label or vectors, in any order, or folders that hold such folders.
        out: The page, a file that ends in .html; it loads nothing from elsewhere.
        results: More results folders.
        data: More data folders.
        config: What to show.

    Returns:
        The page's path.

    Raises:
        UsageError: If nothing was given, or a folder is none of ours.
        DataError: If one of their files is broken.
    """
    from .inputs import open_material
    from .page import page_of, write_page

    return write_page(out, lambda: page_of(open_material((*folders, *results, *data)), config))
