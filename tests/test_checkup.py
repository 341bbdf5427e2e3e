"""`fistful doctor`: each of its findings, provoked once."""

from __future__ import annotations

import gzip
import json
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from fistful.bow.balance import Balance
from fistful.bow.store.files import write_json
from fistful.bow.store.shard import tar_bytes
from fistful.bow.vocabulary import Limits
from fistful.checkup import INSTALLATION, check, doctor
from fistful.checkup.finding import Finding, findings_text
from fistful.checkup.folders import judge_path, judge_text_file
from fistful.checkup.machine import GB, Machine, cgroup_limits, judge_machine, probe_machine
from fistful.checkup.packages import Installed, judge_installed, probe_installed
from fistful.errors import DataError, UsageError
from fistful.pipelines.bags import BagsConfig, bags
from fistful.pipelines.count import CountConfig, count
from fistful.pipelines.stage import Running
from tests.conftest import picture
from tests.folders import fistful

QUIET = Running(progress=False, max_bad_fraction=0.9)
GOOD = Machine(
    cores=2,
    cores_there=2,
    quota=None,
    memory=16 * GB,
    available=12 * GB,
    memory_limit=None,
    bf16=True,
    torch_threads=2,
    gpu=None,
    disk_free=100 * GB,
    disk="/data",
)
VERSIONS = {
    "apache-beam": "2.77.0",
    "numpy": "2.3.5",
    "pyarrow": "25.0.1",
    "torch": "2.14.1",
    "torchvision": "0.29.1",
    "open-clip-torch": "3.3.0",
    "timm": "1.0.31",
    "webdataset": "1.0.2",
    "safetensors": "0.8.0",
    "faiss-cpu": "1.15.1",
    "scipy": "1.18",
    "scikit-learn": "1.9",
    "jinja2": "3.1",
    "matplotlib": "3.11",
}


def one(findings: list[Finding], text: str) -> Finding:
    """The finding that says this."""
    said = [finding for finding in findings if text in finding.found]
    assert len(said) == 1, [finding.found for finding in findings]
    return said[0]


def levels(findings: list[Finding]) -> set[str]:
    return {finding.level for finding in findings}


def test_a_healthy_data_folder_has_nothing_but_ok(tmp_path: Path, captioned_tar: Callable[..., Path]):
    folder = make_bags(tmp_path, captioned_tar)
    findings = judge_path(folder)
    assert levels(findings) == {"ok"}, findings_text(findings)
    assert one(findings, "written by fistful bags").command.startswith(f"fistful verify {folder}")
    assert "1 tar walked: 4 samples, 4 images, 4 with text; 4 images decoded" in one(findings, "walked").found


# The machine


def judged(**changes: object) -> list[Finding]:
    import dataclasses

    return judge_machine(dataclasses.replace(GOOD, **changes))  # pyright: ignore[reportArgumentType]


def test_a_good_machine_is_ok():
    assert levels(judge_machine(GOOD)) == {"ok"}


@pytest.mark.parametrize(
    ("changes", "level", "said", "command"),
    [
        ({"quota": 1.5}, "warning", "a cgroup allows the time of 1.5 cores, 2 are seen", "--threads 1"),
        ({"torch_threads": 8}, "warning", "torch would use 8 threads on 2 cores", "export OMP_NUM_THREADS=2"),
        ({"torch_threads": 1}, "note", "torch would use 1 thread on 2 cores", "--threads 2"),
        ({"available": GB}, "warning", "16.0 GB memory, 1.0 GB free", "--workers 1"),
        ({"memory_limit": GB}, "warning", "1.0 GB memory (a cgroup's limit)", "--workers 1"),
        ({"memory": 0}, "note", "/proc/meminfo does not say", ""),
        ({"bf16": False}, "note", "no bf16 units", ""),
        ({"disk_free": GB}, "warning", "1.0 GB free on the disk of /data", "--out on another disk"),
    ],
)
def test_each_finding_about_a_machine(changes: dict[str, object], level: str, said: str, command: str):
    finding = one(judged(**changes), said)
    assert finding.level == level
    assert command in finding.command


def test_a_gpu_and_a_part_of_the_cores_are_named():
    findings = judged(gpu="H100", cores_there=64)
    assert one(findings, "GPU H100").level == "ok"
    assert one(findings, "2 cores of 64 for this process").level == "ok"


def test_limits_of_cgroups_are_read_from_the_group_and_those_above(tmp_path: Path):
    group = tmp_path / "sys/fs/cgroup/jobs/mine"
    group.mkdir(parents=True)
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text("0::/jobs/mine\n")
    (group / "cpu.max").write_text("max 100000\n")
    (group / "memory.max").write_text(f"{8 * GB}\n")
    (group.parent / "cpu.max").write_text("150000 100000\n")
    (group.parent / "memory.max").write_text(f"{4 * GB}\n")
    assert cgroup_limits(tmp_path) == (1.5, 4 * GB)


def test_limits_of_old_cgroups_are_read_too(tmp_path: Path):
    cpu, memory = tmp_path / "sys/fs/cgroup/cpu", tmp_path / "sys/fs/cgroup/memory/box"
    cpu.mkdir(parents=True)
    memory.mkdir(parents=True)
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text("5:memory:/box\n3:cpu,cpuacct:/\n")
    (cpu / "cpu.cfs_quota_us").write_text("200000")
    (cpu / "cpu.cfs_period_us").write_text("100000")
    (memory / "memory.limit_in_bytes").write_text(f"{2 * GB}")
    (memory.parent / "memory.limit_in_bytes").write_text("9223372036854771712")
    assert cgroup_limits(tmp_path) == (2.0, 2 * GB)
    assert cgroup_limits(tmp_path / "nowhere") == (None, None)


def test_this_machine_can_be_measured(tmp_path: Path):
    machine = probe_machine(tmp_path)
    assert machine.cores >= 1
    assert machine.memory >= machine.available > 0


# The installation


def installed(**changes: str | None) -> list[Finding]:
    versions = {**VERSIONS, **{name.replace("_", "-"): version for name, version in changes.items()}}
    return judge_installed(
        Installed(python="3.11.7", executable="/usr/bin/python3", versions={n: v for n, v in versions.items() if v is not None})
    )


@pytest.mark.parametrize(
    ("changes", "level", "said", "command"),
    [
        ({}, "note", "open_clip_torch 3.3.0 with webdataset 1.0.2", "open_clip_torch[training]"),
        ({"torch": None}, "note", "not installed: torch", "pip install 'fistful[models]'"),
        ({"apache_beam": None}, "problem", "apache-beam is not installed", "pip install"),
        ({"apache_beam": "2.78.0"}, "problem", "apache-beam 2.78.0", "apache-beam>=2.77,<2.78"),
        ({"apache_beam": "2.60.0"}, "problem", "apache-beam 2.60.0", "apache-beam>=2.77,<2.78"),
        ({"numpy": "2.5.1"}, "problem", "numpy 2.5.1 with apache-beam 2.77.0", "numpy<2.5"),
        ({"pyarrow": "26.0.0"}, "problem", "pyarrow 26.0.0 with apache-beam 2.77.0", "pyarrow<26"),
        ({"dill": "0.3.1.1", "datasets": "5.2.0"}, "warning", "dill 0.3.1.1 with datasets 5.2.0", "dill>=0.3.8"),
        ({"open_clip_torch": "2.26.1"}, "problem", "open_clip_torch 2.26.1", "open_clip_torch>=3"),
        ({"torchvision": None}, "problem", "torch 2.14.1 without torchvision", "pip install torchvision"),
        ({"torchvision": "0.28.0"}, "problem", "torch 2.14.1 with torchvision 0.28.0", "torchvision==0.29.*"),
        ({"torch": "2.14.1+cpu", "torchvision": "0.29.1+cu130"}, "problem", "torch 2.14.1+cpu with torchvision", "whl/cpu"),
        ({"clip_benchmark": "1.6.2", "numpy": "2.4.6"}, "warning", "clip-benchmark 1.6.2 with numpy 2.4.6", "numpy<2.4"),
        ({"img2dataset": "1.47.0"}, "warning", "img2dataset 1.47.0 in this environment", "pip install img2dataset"),
        ({"dataclasses": "0.6"}, "warning", "the package dataclasses 0.6", "pip uninstall dataclasses"),
    ],
)
def test_each_finding_about_packages(changes: dict[str, str | None], level: str, said: str, command: str):
    finding = [f for f in installed(**changes) if f.level != "ok" and f.found.startswith(said)]
    assert [f.level for f in finding] == [level]
    assert command in finding[0].command


def test_findings_about_the_interpreter_and_the_engine():
    findings = judge_installed(
        Installed(
            python="3.10.4", executable="/home/a user/python", versions=VERSIONS, training_from=("fistful", "open_clip_torch"), prism=True
        )
    )
    assert one(findings, "a space in the interpreter's path").level == "note"
    assert [f.level for f in findings if f.found == "python 3.10.4"] == ["problem"]
    assert one(findings, "engine Prism").command.startswith("--runner FnApiRunner")
    assert "a top-level package `training` from open_clip_torch" in one(findings, "`training`").found


def test_good_pairs_are_not_complained_about():
    fine = installed(webdataset="0.2.86", clip_benchmark="1.6.2", datasets="5.2.0", dill="0.4.0")
    assert levels(fine) == {"ok"}


def test_this_installation_has_no_problem():
    assert "problem" not in levels(judge_installed(probe_installed()))


# Tars


def write_tar(path: Path, files: dict[str, bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(tar_bytes(files))
    return path


def pair(key: str, caption: bytes = b"a dog") -> dict[str, bytes]:
    return {f"{key}.png": picture(), f"{key}.txt": caption}


@pytest.mark.parametrize(
    ("files", "level", "said", "means"),
    [
        ({**pair("0"), "1.png": picture()}, "warning", "1 image without text, x.tar/1", "no_caption"),
        ({**pair("0"), "1.txt": b"a cat"}, "warning", "1 text without an image, x.tar/1", "no_image"),
        ({"1.json": b"{}"}, "note", "1 text without an image, x.tar/1", "no_image"),
        ({**pair("0"), **pair("1", b"")}, "warning", "1 empty text, x.tar/1", "no_caption"),
        ({**pair("0"), "1.png": b"GIF89a", "1.txt": b"a"}, "warning", "1 of 2 images tried cannot be read, x.tar/1.png", "replaces"),
        ({**pair("0"), **pair("1"), "0.json": b"{}"}, "problem", "1 name twice in a tar, x.tar/0", "splits the sample"),
        ({**pair("0"), **pair("a.b")}, "problem", "2 files with a dot in the key, x.tar/a.b.png", "first dot"),
        ({**pair("0"), "0.txt.gz": gzip.compress(b"a")}, "warning", "1 compressed file inside, x.tar/0.txt.gz", "unpacks"),
        ({**pair("0"), "0.pkl": b"."}, "warning", "1 pickle inside, x.tar/0.pkl", "run the program"),
        ({**pair("0"), "0.mp4": b"m", "LICENSE": b"l"}, "note", "files that are not read: 1 .mp4, 1 without ending", ""),
        ({**pair("0"), "../1.png": picture()}, "warning", "1 link or name that lead out", "bad_name"),
        ({"0.png": picture()}, "note", "images without captions", "nothing to count"),
        ({"dog/0.png": picture(), "cat/0.png": picture()}, "note", "no webdataset: images in folders", "side by side"),
        ({}, "warning", "1 empty tar, x.tar", "no sample"),
    ],
)
def test_each_finding_about_a_tar(tmp_path: Path, files: dict[str, bytes], level: str, said: str, means: str):
    finding = one(judge_path(write_tar(tmp_path / "x.tar", files)), said)
    assert finding.level == level
    assert means in finding.means


def test_links_in_tars_are_found(tmp_path: Path):
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        link = tarfile.TarInfo("0.jpg")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    assert one(judge_path(tmp_path / "x.tar"), "lead out of the archive").level == "warning"


@pytest.mark.parametrize("name", ["x.tar", "x.tar.gz"])
def test_a_cut_archive_is_found(tmp_path: Path, name: str):
    whole = tar_bytes({**pair("0"), **pair("1")})
    data = gzip.compress(whole) if name.endswith(".gz") else whole
    (tmp_path / name).write_bytes(data[: len(data) // 2] if name.endswith(".gz") else data[:2_000])
    finding = one(judge_path(tmp_path / name), "1 broken archive, x.tar")
    assert (finding.level, finding.command) == ("problem", "fetch or pack them again")


def test_what_is_no_archive_is_found(tmp_path: Path):
    (tmp_path / "x.tar").write_bytes(b"<html>404</html>" * 100)
    assert one(judge_path(tmp_path / "x.tar"), "1 broken archive").level == "problem"


def test_shards_of_a_folder_are_compared_with_each_other(tmp_path: Path):
    folder = tmp_path / "data"
    for n in (0, 1, 4):
        write_tar(folder / f"{n:05d}.tar", pair("same"))
    findings = judge_path(folder)
    assert one(findings, "2 keys that an earlier tar has too, 00001.tar/same, 00004.tar/same").level == "note"
    assert one(findings, "2 numbers missing between the tars, 00002.tar, 00003.tar").level == "warning"
    assert one(findings, "no sizes.json").command == "--train-num-samples 3 for open_clip_train"


@pytest.mark.parametrize(
    ("sizes", "level", "said"),
    [
        ('{"0.tar": 1, "1.tar": 1}', "ok", "sizes.json agrees with 2 tars"),
        ('{"0.tar": 1, "1.tar": 5}', "problem", "sizes.json does not match 1 tar, 1.tar: 5 there, 1 counted"),
        ('{"0.tar": 1, "1.tar": 1, "2.tar": 1}', "problem", "sizes.json names 1 missing tar, 2.tar"),
        ('{"0.tar": 1}', "warning", "sizes.json leaves out 1 tar, 1.tar"),
        ("[", "problem", "is not JSON of tars and numbers"),
    ],
)
def test_sizes_are_compared_with_what_is_there(tmp_path: Path, sizes: str, level: str, said: str):
    for n in (0, 1):
        write_tar(tmp_path / f"{n}.tar", pair(f"k{n}"))
    (tmp_path / "sizes.json").write_text(sizes)
    assert one(judge_path(tmp_path), said).level == level


def test_downloads_of_img2dataset_are_counted(tmp_path: Path):
    for n in range(3):
        write_tar(tmp_path / f"0000{n}.tar", pair(f"k{n}"))
    told = {"count": 10, "successes": 1, "failed_to_download": 9, "status_dict": {"success": 1, "HTTP Error 404: Not Found": 9}}
    (tmp_path / "00000_stats.json").write_text(json.dumps(told))
    (tmp_path / "00001_stats.json").write_text(json.dumps({**told, "successes": 2}))
    findings = judge_path(tmp_path)
    assert one(findings, "img2dataset: 3 of 20 downloads succeeded (15.0%); HTTP Error 404: Not Found 18").level == "warning"
    assert (
        one(findings, "1 tar with other numbers of samples than img2dataset's stats, 00001.tar (1 samples, 2 successes)").level == "problem"
    )
    assert one(findings, "1 tar without img2dataset's stats, 00002.tar").level == "warning"


# Class folders, images, captions


def make_classes(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).mkdir(parents=True)
        (root / name / "0.png").write_bytes(picture())
        (root / name / "1.png").write_bytes(picture())
    return root


def test_class_folders_are_taken_for_an_evaluation_set(tmp_path: Path):
    finding = one(judge_path(make_classes(tmp_path / "set", "dog", "cat")), "evaluation set of 2 classes, 4 images")
    assert (finding.level, finding.command) == ("ok", f"fistful evaluate RUN --data {tmp_path / 'set'} --out RESULTS")


def test_classes_without_images_and_broken_images_are_found(tmp_path: Path):
    root = make_classes(tmp_path / "set", "dog", "cat")
    (root / "owl").mkdir()
    (root / "dog" / "0.png").write_bytes(b"not an image")
    findings = judge_path(root)
    assert one(findings, "class 'owl' has no image").level == "warning"
    assert one(findings, "1 of 4 images tried cannot be read, dog/0.png").level == "warning"


@pytest.mark.parametrize(
    ("names", "level", "said"),
    [
        (("n01443537", "n02123045"), "ok", "class folders are WordNet ids, n01443537 = goldfish"),
        (("n01443537", "dog"), "warning", "1 of 2 class folders are WordNet ids"),
        (("n99999999", "n01443537"), "problem", "looks like a WordNet id but is not one of ImageNet's"),
        (("0", "1"), "problem", "2 classes are called by numbers, 0, 1"),
        (("train", "test"), "problem", "are splits, not classes"),
    ],
)
def test_names_of_class_folders(tmp_path: Path, names: tuple[str, ...], level: str, said: str):
    assert one(judge_path(make_classes(tmp_path / "set", *names)), said).level == level


def test_a_missing_shard_of_an_evaluation_set_is_found(tmp_path: Path):
    (tmp_path / "classnames.txt").write_text("dog\ncat\n")
    write_tar(tmp_path / "test" / "0.tar", {"0.png": picture(), "0.cls": b"1"})
    (tmp_path / "test" / "nshards.txt").write_text("2")
    assert one(judge_path(tmp_path), "1 of 2 shards are missing").level == "problem"


def test_images_and_texts_that_do_not_stand_side_by_side_are_found(tmp_path: Path):
    for name in ("0.png", "1.png", "2.png", "2.jpg"):
        (tmp_path / name).write_bytes(picture(format="PNG" if name.endswith("png") else "JPEG"))
    for name, text in (("0", ""), ("2", "a dog"), ("9", "a cat")):
        (tmp_path / f"{name}.txt").write_text(text)
    (tmp_path / "3.gif").write_bytes(b"GIF89a")
    findings = judge_path(tmp_path)
    assert one(findings, "1 image without a .txt, 1.png").level == "warning"
    assert one(findings, "1 text without an image, 9.txt").level == "warning"
    assert one(findings, "1 empty text, 0.txt").level == "warning"
    assert one(findings, "1 text beside several images, 2.txt").level == "note"
    assert one(findings, "images of kinds that are not read: 1 .gif").level == "warning"


def test_images_without_any_text_are_for_label(tmp_path: Path):
    (tmp_path / "0.png").write_bytes(picture())
    assert one(judge_path(tmp_path), "images without captions").command.startswith("fistful label")


def test_a_folder_of_nothing_is_a_problem(tmp_path: Path):
    (tmp_path / "notes.md").write_text("hello")
    assert one(judge_path(tmp_path), "holds no tar, TSV, CSV or image").level == "problem"
    assert one(judge_path(tmp_path / "notes.md"), "notes.md is no tar, TSV or CSV").level == "problem"


def test_caption_files_are_read(tmp_path: Path):
    def judge(name: str, data: bytes) -> list[Finding]:
        (tmp_path / name).write_bytes(data)
        return judge_text_file(tmp_path / name)

    fine = judge("a.tsv", b"url\tcaption\nu\ta dog\n")
    assert levels(fine) == {"ok"}
    assert fine[0].command.endswith("a.tsv --out COUNTS --caption caption")
    assert one(judge("b.csv", b"caption\na dog\n"), "b.csv is CSV").level == "note"
    assert one(judge("c.tsv.gz", gzip.compress(b"caption\na dog\n")), "c.tsv.gz is compressed").level == "note"
    assert one(judge("d.tsv.gz", gzip.compress(b"caption\na dog\n" * 99)[:-9]), "d.tsv.gz is broken").level == "problem"
    assert one(judge("e.tsv", b""), "e.tsv is empty").level == "problem"
    assert one(judge("f.tsv", b"caption\ncaf\xe9\n"), "f.tsv is not UTF-8 at byte 11").level == "warning"
    assert one(judge("g.tsv", "caption".encode("utf-16-le")), "g.tsv holds zero bytes").level == "warning"


# Ours


def make_bags(tmp_path: Path, captioned_tar: Callable[..., Path], *, threshold: float = 100) -> Path:
    source = str(captioned_tar("data.tar", ["a red dog", "a cat runs", "a dog", "the red cat"]))
    count(source, out=tmp_path / "counts", config=CountConfig(running=QUIET))
    config = BagsConfig(limits=Limits(min_count=1), balance=Balance(rule="cap", threshold=threshold), running=QUIET)
    return bags(source, counts=tmp_path / "counts", out=tmp_path / "bags", config=config)


def test_an_unfinished_folder_says_which_units_are_missing(tmp_path: Path, captioned_tar: Callable[..., Path]):
    folder = make_bags(tmp_path, captioned_tar)
    (folder / "manifest.json").unlink()
    shutil.copy(folder / "stats" / "00000.json", folder / "stats" / "00003.json")
    (folder / "logs" / "tmp").mkdir(exist_ok=True)
    (folder / "logs" / "tmp" / "00001.tar.12.ab").write_bytes(b"half")
    findings = judge_path(folder)
    assert one(findings, "unfinished (no manifest.json)").level == "warning"
    assert one(findings, "2 units done of at least 4; not done among them: 1, 2").level == "note"
    assert one(findings, "1 half-written file of killed workers").command.startswith("rm -r")


def test_files_that_are_missing_or_of_another_size_are_found(tmp_path: Path, captioned_tar: Callable[..., Path]):
    folder = make_bags(tmp_path, captioned_tar)
    (folder / "dead_letters" / "00000.parquet").unlink()
    with open(folder / "stats" / "00000.json", "ab") as file:
        file.write(b"\n")
    finding = one(judge_path(folder), "2 files other than its manifest.json says, dead_letters/00000.parquet (missing)")
    assert (finding.level, finding.command) == ("problem", f"fistful verify {folder}")


def test_lost_stats_of_a_finished_folder_are_found(tmp_path: Path, captioned_tar: Callable[..., Path]):
    folder = make_bags(tmp_path, captioned_tar)
    (folder / "stats" / "00000.json").unlink()
    assert one(judge_path(folder), "units 0 have no stats").level == "problem"


def test_shards_that_do_not_fit_index_and_sizes_are_found(tmp_path: Path, captioned_tar: Callable[..., Path]):
    folder = make_bags(tmp_path, captioned_tar)
    write_tar(folder / "shards" / "00000.tar", pair("00000_0000000"))
    finding = one(judge_path(folder), "shards, index and sizes.json do not agree")
    assert "00000.tar (1 samples, index has 4)" in finding.found
    (folder / "index" / "00000.parquet").write_bytes(b"no parquet")
    assert "index/00000.parquet (cannot be read)" in one(judge_path(folder), "do not agree").found
    (folder / "index" / "00000.parquet").unlink()
    assert "(not in the index)" in one(judge_path(folder), "do not agree").found


def test_refused_rows_and_emptied_bags_are_told(tmp_path: Path, captioned_tar: Callable[..., Path]):
    folder = make_bags(tmp_path, captioned_tar)
    stats = json.loads((folder / "stats.json").read_bytes())
    write_json(folder, "stats.json", {**stats, "rows": 10, "kept": 4, "refused": {"no_caption": 6}, "bags_emptied": 2})
    findings = judge_path(folder)
    assert one(findings, "6 refused (no_caption 6)").level == "warning"
    assert one(findings, "balancing emptied 2 of 4 bags").command.startswith(f"fistful words {folder}")


def test_a_folder_of_a_newer_version_is_a_problem(tmp_path: Path):
    write_json(tmp_path, "config.json", {"format": 99, "verb": "count", "config": {}, "inputs": {}, "id": "0"})
    assert one(judge_path(tmp_path), "has format 99").level == "problem"


def test_a_broken_vocabulary_is_a_problem(tmp_path: Path, captioned_tar: Callable[..., Path]):
    folder = make_bags(tmp_path, captioned_tar)
    (folder / "vocabulary.parquet").write_bytes(b"no parquet")
    assert one(judge_path(folder), "not a readable parquet file").level == "problem"


def make_run(folder: Path, *checkpoints: int) -> Path:
    write_json(folder, "config.json", {"format": 1, "verb": "train", "config": {"steps": 100}, "inputs": [], "id": "0"})
    (folder / "checkpoints").mkdir()
    for step in checkpoints:
        (folder / "checkpoints" / f"step-{step:010d}.pt").write_bytes(b"")
    return folder


def test_an_unfinished_run_says_where_it_would_go_on(tmp_path: Path):
    assert one(judge_path(make_run(tmp_path / "a", 20, 40)), "last checkpoint at step 40 of 100").level == "note"
    run = make_run(tmp_path / "b")
    (run / "logs").mkdir(exist_ok=True)
    (run / "logs" / "replaced.jsonl").write_text("{}\n{}\n")
    findings = judge_path(run)
    assert one(findings, "no checkpoint yet").level == "note"
    assert one(findings, "2 broken pictures replaced in training").level == "warning"


def test_model_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)  # no transformers here
    config = tmp_path / "open_clip_config.json"
    config.write_text(json.dumps({"model_cfg": {"text_cfg": {"hf_tokenizer_name": "bert"}}}))
    assert one(judge_path(tmp_path), "has no weights that open_clip reads").level == "problem"
    (tmp_path / "open_clip_model.safetensors").write_bytes(b"")
    findings = judge_path(tmp_path)
    assert one(findings, "model with open_clip_model.safetensors").level == "ok"
    assert one(findings, "one of transformers', which is not installed").command == "pip install transformers"
    assert one(findings, "does not lie beside it (tokenizer.json)").level == "warning"
    config.write_text("{}")
    assert one(judge_path(tmp_path), "has no model_cfg").level == "problem"


# The report and the exit code


def test_the_text_has_a_part_for_each_thing_and_a_summary():
    text = findings_text(
        [Finding("ok", "2 cores", about="machine"), Finding("problem", "broken", "rows are lost", "fetch it again", about="data/")]
    )
    assert text.splitlines() == [
        "machine",
        "  ok       2 cores",
        "",
        "data/",
        "  problem  broken: rows are lost",
        "           -> fetch it again",
        "",
        "1 problem, 0 warnings, 0 notes",
    ]


def test_problems_in_the_folder_end_with_3_and_in_the_installation_with_2():
    check([Finding("warning", "slow", about="data/"), Finding("note", "so", about=INSTALLATION)])
    here, there = Finding("problem", "old", about=INSTALLATION), Finding("problem", "broken", about="data/")
    with pytest.raises(UsageError, match=r"^1 problem found in the installation, the first: old$"):
        check([here])
    with pytest.raises(DataError, match=r"^data/: 1 problem found, the first: broken$"):
        check([here, there])


def test_all_parts_are_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write_tar(tmp_path / "x.tar", pair("0"))
    assert list(dict.fromkeys(f.about for f in doctor(tmp_path))) == ["machine", "installation", str(tmp_path)]
    monkeypatch.chdir(tmp_path)
    assert {f.about for f in doctor()} == {"machine", "installation"}
    with pytest.raises(UsageError, match="no such file or folder"):
        doctor(tmp_path / "nowhere")


def test_the_command_line_ends_with_3_for_a_broken_folder(tmp_path: Path):
    write_tar(tmp_path / "x.tar", pair("0"))
    data = (tmp_path / "x.tar").read_bytes()
    (tmp_path / "x.tar").write_bytes(data[:600])
    done = fistful("doctor", tmp_path)
    assert done.returncode == 3
    assert "problem  1 broken archive, x.tar (unexpected end of data)" in done.stdout
    assert done.stderr.splitlines() == [
        f"fistful: {tmp_path}: 1 problem found, the first: 1 broken archive, x.tar (unexpected end of data)"
    ]


def test_the_real_pictures_are_healthy(data_root: Path):
    findings = judge_path(data_root / "photos" / "captioned" / "tuxpaint-00000.tar.gz")
    assert levels(findings) == {"ok"}
    assert "300 samples, 300 images, 300 with text" in findings[0].found
    assert levels(judge_path(data_root / "eval" / "cifar10")) == {"ok"}
