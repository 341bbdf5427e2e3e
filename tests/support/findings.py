"""What the tests of `fistful doctor` share: folders to look at, and the finding that is meant."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from fistful.bow.balance import Balance
from fistful.bow.store.files import write_json
from fistful.bow.store.shard import tar_bytes
from fistful.bow.vocabulary import Limits
from fistful.pipelines.bags import BagsConfig, bags
from fistful.pipelines.count import CountConfig, count
from fistful.pipelines.engine.stage import Running
from fistful.verbs.doctor.finding import Finding
from tests.support.pictures import picture

QUIET = Running(progress=False, max_bad_fraction=0.9)


def one(findings: list[Finding], text: str) -> Finding:
    """The finding that says this."""
    said = [finding for finding in findings if text in finding.text]
    assert len(said) == 1, [finding.text for finding in findings]
    return said[0]


def levels(findings: list[Finding]) -> set[str]:
    return {finding.level for finding in findings}


def write_tar(path: Path, files: dict[str, bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(tar_bytes(files))
    return path


def pair(key: str, caption: bytes = b"a dog") -> dict[str, bytes]:
    return {f"{key}.png": picture(), f"{key}.txt": caption}


def make_classes(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).mkdir(parents=True)
        (root / name / "0.png").write_bytes(picture())
        (root / name / "1.png").write_bytes(picture())
    return root


def make_bags(tmp_path: Path, captioned_tar: Callable[..., Path], *, threshold: float = 100) -> Path:
    source = str(captioned_tar("data.tar", ["a red dog", "a cat runs", "a dog", "the red cat"]))
    count(source, out=tmp_path / "counts", config=CountConfig(running=QUIET))
    config = BagsConfig(limits=Limits(min_count=1), balance=Balance(rule="cap", threshold=threshold), running=QUIET)
    return bags(source, counts=tmp_path / "counts", out=tmp_path / "bags", config=config)


def make_run(folder: Path, *checkpoints: int) -> Path:
    write_json(folder, "config.json", {"format": 1, "verb": "train", "config": {"steps": 100}, "inputs": [], "id": "0"})
    (folder / "checkpoints").mkdir()
    for step in checkpoints:
        (folder / "checkpoints" / f"step-{step:010d}.pt").write_bytes(b"")
    return folder
