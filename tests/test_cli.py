"""The command line: what it prints, and that every fault ends in one line and the right exit code."""

from __future__ import annotations

import errno
import json
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from fistful.cli import ALIASES, VERBS, run
from fistful.commands import WITH_PICTURES
from fistful.job_texts import scores_text
from tests.support.folders import environment, fistful
from tests.support.pictures import picture

HELP = "--help shows what there is."


def without_rates(printed: tuple[str, str]) -> tuple[str, str]:
    """What was printed, but for how slow a slow machine was."""
    return re.sub(r"; [\d.,]+ s, [\d,]+ rows/s, [\d.,]+ MB/s", "", printed[0]), printed[1]


def test_the_verbs_count_bags_and_verify_work_in_order(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["count", "a.tsv", "--out", "counts", "--no-progress"]) == 0
    assert without_rates(capsys.readouterr()) == (
        "3 rows read, 3 kept; refused: none\n"
        "3 words in counts/vocabulary.parquet, most frequent first\n"
        f"captions alone, and training needs pictures: {WITH_PICTURES}\n"
        "next: fistful bags a.tsv --counts counts --out DATA --rule cap --kept 0.5\n",
        "",
    )
    bags = ["bags", "a.tsv", "--counts", "counts", "--out", "data", "--min-count", "1", "--no-progress"]
    assert run(bags) == 0
    first = without_rates(capsys.readouterr())[0]
    assert first.startswith(
        "3 rows read, 3 kept; refused: none\n1 sample repeats an earlier one of their unit, byte for byte; all were kept\n6 words in bags"
    )
    assert first.endswith(f"1 shard in data/shards\nno picture is in them, and fistful train needs some: {WITH_PICTURES}\n")
    assert run(bags) == 0
    assert without_rates(capsys.readouterr())[0] == f"done already: {first}"
    assert run(["verify", "counts", "data"]) == 0
    assert capsys.readouterr().out == "counts: every byte as written\ndata: every byte as written\n"


def test_why_rows_were_refused_is_said_and_what_was_allowed_is_carried_over(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("b.csv").write_bytes(b"text;id\nred dog;1\ncaf\xe9;2\ncaf\xe9;3\na;b;4\n;5\n")
    count = ["count", "b.csv", "--out", "counts", "--no-progress", "--workers", "1", "--max-bad-fraction", "0.8"]
    assert run(count) == 0
    assert without_rates(capsys.readouterr())[0].startswith(
        "5 rows read, 1 kept; refused: bad_caption 2, bad_row 1, no_caption 1\n"
        "bad_caption, the first: b.csv row 2: not UTF-8 (unexpected end of data at byte 3): "
        "iconv -f cp1252 -t utf-8 FILE > NEW, if it is Windows-1252 or Latin-1\n"
    )
    assert run(count) == 0
    command = without_rates(capsys.readouterr())[0].partition("next: fistful ")[2]
    assert command == "bags b.csv --max-bad-fraction 0.8 --counts counts --out DATA --rule cap --kept 0.5\n"
    assert run([*shlex.split(command), "--min-count", "1", "--no-progress"]) == 0


def test_a_folder_of_an_earlier_version_is_found_done_or_finished(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Versions before did not count words_thinned_out, in stats.json and in those of each unit."""
    assert run(["count", "a.tsv", "--out", "counts", "--no-progress"]) == 0
    bags = ["bags", "a.tsv", "--counts", "counts", "--out", "data", "--min-count", "1", "--no-progress"]
    assert run(bags) == 0
    said = without_rates(capsys.readouterr())[0].partition("next: fistful bags")[2].partition("\n")[2]
    for path in (Path("data/stats.json"), Path("data/stats/00000.json")):
        stats = json.loads(path.read_text())
        assert stats.pop("words_thinned_out") == 0
        path.write_text(json.dumps(stats))
    assert run(bags) == 0
    assert without_rates(capsys.readouterr())[0] == f"done already: {said}"
    Path("data/manifest.json").unlink()
    assert run(bags) == 0
    assert without_rates(capsys.readouterr())[0] == said


def test_what_is_passed_over_is_said_by_kind_each_time_and_before_a_dry_run(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("photos").mkdir()
    for name in ("a.jpg", "b.gif", "c.avif", "._a.jpg"):
        Path("photos", name).write_bytes(picture(format="JPEG"))
    Path("photos/a.txt").write_text("red fox")
    passed = (
        "read: 1 picture, with texts: 1 .txt\n"
        "passed over: 2 pictures of kinds that are not read (1 .avif, 1 .gif), such as b.gif: "
        "make PNG or JPEG of them (mogrify -format png)\n"
        "passed over: 1 hidden file or folder, such as ._a.jpg: give them by name if they are meant\n"
    )
    count = ["count", "photos", "--out", "counts", "--no-progress"]
    assert run([*count, "--dry-run"]) == 0
    assert capsys.readouterr().out.startswith(passed + "dry run")
    for done in ("", "done already: "):
        assert run(count) == 0
        said = re.sub(r"; [0-9.]+ s, .* MB/s\n", "\n", capsys.readouterr().out)  # said where it took long
        assert said.startswith(f"{done}1 row read, 1 kept; refused: none\n{passed}2 words")
    assert run(["bags", "photos", "--counts", "counts", "--out", "data", "--min-count", "1", "--no-progress"]) == 0
    assert f"1 row read, 1 kept; refused: none\n{passed}2 words" in capsys.readouterr().out
    assert run(["verify", "counts", "data"]) == 0


def test_an_archive_that_is_not_read_is_named(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("packed").mkdir()
    Path("packed/a.zip").write_bytes(b"")
    assert run(["count", "packed", "--out", "counts"]) == 2
    assert capsys.readouterr().err == (
        "fistful: packed: holds no tar, TSV, CSV, JSONL, image or parquet; "
        "1 archive of a kind that is not read (.zip), such as a.zip: pack them as .tar or .tar.gz\n"
    )
    assert run(["count", "packed/a.zip", "--out", "counts"]) == 2
    assert capsys.readouterr().err == "fistful: packed/a.zip: .zip is not read; pack it as .tar or .tar.gz\n"


FAULTS = [
    ("count", "fistful: no SOURCE given; expected files (TSV, CSV, JSONL, text, parquet, tar) or folders"),
    ("count nowhere.tsv", "fistful: nowhere.tsv: no such file or folder"),
    (
        "count rest",
        "fistful: rest: holds no tar, TSV, CSV, JSONL, image or parquet; "
        "1 text, such as notes.txt: --input-format txt reads a caption on each line",
    ),
    ("count a.tsv a.tsv", "fistful: {here}/a.tsv: given twice; every input counts once"),
    (
        "count a.tsv --caption text",
        "fistful: {here}/a.tsv: no column 'text' in its first line ('caption', 'id'); "
        "--caption NAME names the caption column, --caption 2 takes the second of a file without header",
    ),
    ("count a.tsv --caption 3", "fistful: {here}/a.tsv: its first row has 2 columns, --caption 3 needs more"),
    ("count a.tsv --caption 0", "fistful: --caption 0: columns are numbered from 1"),
    ("count a.tsv --min-length 0", "fistful: --min-length 0: expected 1 or more"),
    ("count a.tsv --language ja", "fistful: --language ja: its script has no spaces between words, which is not supported"),
    ("count a.tsv --min-lenght 2", f"fistful: Unknown option: --min-lenght. Did you mean --min-length? fistful count {HELP}"),
    ("count a.tsv --direct-num-workers 2", f"fistful: Unknown option: --direct-num-workers. Did you mean --workers? fistful count {HELP}"),
    ("count a.tsv --workers two", f'fistful: Invalid value for --workers: unable to convert "two" into int. fistful count {HELP}'),
    ("count a.tsv --workers 0", "fistful: --workers 0: expected 1 or more"),
    ("count a.tsv --max-bad-fraction nan", "fistful: --max-bad-fraction nan: expected a fraction from 0 to 1"),
    ("bags a.tsv", f'fistful: Command "bags" parameter --counts requires an argument. fistful bags {HELP}'),
    ("bags a.tsv --counts rest", "fistful: rest: is no folder that fistful wrote (no config.json)"),
    ("bags a.tsv --counts rest --rule cap", "fistful: --rule cap: needs --threshold or --kept, found none"),
    ("bags a.tsv --counts rest --rule cap --kept inf", "fistful: --kept inf: expected a fraction above 0, at most 1"),
    (
        "train bags --objective words --evaluate-on classes",
        "fistful: --evaluate-on classes: class names are scored by the text tower, and --objective words trains none; "
        "leave it out and ask the word head with fistful evaluate --prompts head, or use --objective joint",
    ),
    ("verify", "fistful: no FOLDER given; expected folders that fistful wrote"),
    ("verify rest", "fistful: rest: no manifest.json; either not a folder of fistful's, or not finished"),
    ("count a.tsv --config none.toml", "fistful: --config none.toml: no such file; expected a TOML file, an option a line: min-length = 2"),
]


@pytest.mark.parametrize(("command", "message"), FAULTS, ids=[command for command, _ in FAULTS])
def test_a_call_at_fault_ends_with_2_in_one_line_that_says_what_to_do(
    here: Path, capsys: pytest.CaptureFixture[str], command: str, message: str
) -> None:
    verb, *rest = command.split()
    out = [] if verb == "verify" else ["--out", "out"]
    assert run([verb, *rest, *out]) == 2
    assert capsys.readouterr() == ("", message.format(here=here) + "\n")
    assert not Path("out").exists()


@pytest.mark.parametrize(("rule", "nearest"), [("capp", "cap"), ("randm", "random"), ("top-k", "top_k")])
def test_a_mistyped_value_is_told_with_the_nearest_one(here: Path, capsys: pytest.CaptureFixture[str], rule: str, nearest: str) -> None:
    assert run(["bags", "a.tsv", "--counts", "counts", "--out", "out", "--rule", rule]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f'fistful: Invalid value "{rule}" for --rule. Choose from: "none"')
    assert error.endswith(f'Did you mean "{nearest}"? fistful bags {HELP}\n')


def test_a_mistyped_verb_is_told_with_the_nearest_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["cuont", "a.tsv"]) == 2
    assert capsys.readouterr().err.startswith('fistful: Unknown command "cuont". Did you mean "count"? Available commands: count, bags, ')


def test_what_opens_an_address_is_in_no_message(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["count", "none://me:secret@host/a.tsv", "--out", "counts"]) == 2
    assert capsys.readouterr().err == "fistful: none://host/a.tsv: Protocol not known: none\n"


@pytest.mark.parametrize(
    ("out", "message"),
    [
        ("a.tsv", "--out a.tsv: is a file, expected a folder"),
        ("rest", "{here}/rest: is not empty and was not written by fistful count; choose another --out"),
        ("s3://k:s@bucket/x", "s3://bucket/x: has more than PROTOCOL://BUCKET/NAME; keys come from the environment, not from the URL"),
        ("rest/notes.txt/x", "--out rest/notes.txt/x: {here}/rest/notes.txt is a file, expected a folder; choose another --out"),
    ],
)
def test_an_output_that_cannot_be_one_is_refused(here: Path, capsys: pytest.CaptureFixture[str], out: str, message: str) -> None:
    assert run(["count", "a.tsv", "--out", out]) == 2
    assert capsys.readouterr() == ("", f"fistful: {message.format(here=here)}\n")


@pytest.mark.parametrize(
    "command",
    [
        ["count", "a.tsv", "--out", "a.tsv/x/y"],
        ["bags", "a.tsv", "--counts", "rest", "--out", "a.tsv/x/y"],
        ["train", "rest", "--out", "a.tsv/x/y"],
        ["label", "rest", "--model", "m", "--like", "rest", "--out", "a.tsv/x/y"],
        ["evaluate", "m", "--data", "rest", "--out", "a.tsv/x/y"],
        ["demo", "--out", "a.tsv/x/y"],
        ["classify", "m", "rest", "--names", "rest/notes.txt", "--out", "a.tsv/x/y.csv"],
        ["report", "rest", "--out", "a.tsv/x/y.html"],
    ],
    ids=lambda command: command[0],
)
def test_an_output_below_a_file_is_refused_by_every_verb_that_writes(
    here: Path, capsys: pytest.CaptureFixture[str], command: list[str]
) -> None:
    assert run(command) == 2
    said = f"fistful: --out {command[-1]}: {here}/a.tsv is a file, expected a folder; choose another --out\n"
    assert capsys.readouterr() == ("", said)


def test_an_output_inside_a_source_is_refused(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["count", ".", "--out", "counts"]) == 2
    assert (
        capsys.readouterr().err == f"fistful: --out {here}/counts: lies in the source ., which it would change; choose a folder outside\n"
    )


def test_a_folder_of_another_configuration_is_refused_with_the_difference(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["count", "a.tsv", "--out", "counts", "--no-progress"]) == 0
    capsys.readouterr()
    assert run(["count", "a.tsv", "--out", "counts", "--min-length", "2"]) == 2
    assert capsys.readouterr() == (
        "",
        f"fistful: {here}/counts: belongs to another configuration (min_length: 1 there, 2 asked); choose another --out\n",
    )
    assert run(["bags", "a.tsv", "--counts", "counts", "--out", "counts"]) == 2
    assert capsys.readouterr().err == (
        f"fistful: {here}/counts: belongs to another configuration (written by fistful count); choose another --out\n"
    )


def test_data_at_fault_ends_with_3(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("bad.tsv").write_text("caption\n \nred dog\n")
    assert run(["count", "bad.tsv", "--out", "out", "--no-progress"]) == 3
    assert capsys.readouterr() == (
        "",
        f"fistful: {here}/out: 1 of 2 rows refused (no_caption 1; the first: bad.tsv row 1: caption is empty or missing), "
        f"allowed are 20.0%; {here}/out/dead_letters has them; --max-bad-fraction allows more\n",
    )
    assert run(["count", "a.tsv", "--out", "counts", "--no-progress"]) == 0
    capsys.readouterr()
    assert run(["bags", "a.tsv", "--counts", "counts", "--out", "data", "--min-count", "4"]) == 3
    assert (
        capsys.readouterr().err == "fistful: counts: no word reaches --min-count 4; --min-count 3 leaves 1 word, --min-count 1 leaves 3\n"
    )
    Path("bad.tsv").write_text("caption\n1 2\n")
    assert run(["count", "bad.tsv", "--out", "none", "--no-progress"]) == 0
    capsys.readouterr()
    assert run(["bags", "bad.tsv", "--counts", "none", "--out", "more"]) == 3
    said = "none: holds no word, for no caption does; fistful count --no-alphabetic counts numbers and the like too"
    assert capsys.readouterr().err == f"fistful: {said}\n"


def test_a_full_disk_ends_with_5(here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.fsync", full)
    assert run(["count", "a.tsv", "--out", "out"]) == 5
    assert capsys.readouterr() == (
        "",
        "fistful: No space left on device (while writing): free some, or choose another --out; the same command resumes\n",
    )


def full(handle: int) -> None:
    import errno
    import os

    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_defect_of_ours_ends_with_1_and_says_where_the_traceback_is(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(here))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setattr("fistful.pipelines.engine.job.plan_units", lambda *_: 1 // 0)
    assert run(["count", "a.tsv", "--out", "out"]) == 1
    (log,) = here.glob("fistful-*.log")
    assert capsys.readouterr().err == (
        f"fistful: a defect of ours: ZeroDivisionError: integer division or modulo by zero; traceback in {log}\n"
    )
    assert "ZeroDivisionError" in log.read_text()


def test_help_names_every_verb_and_loads_nothing_heavy() -> None:
    heavy = {"torch", "apache_beam", "pyarrow", "spacy", "open_clip", "numpy", "matplotlib"}
    script = f"import sys; from fistful.cli import run; run(['--help']); print(sorted({heavy!r} & {{*sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    *text, loaded = done.stdout.strip().splitlines()
    assert loaded == "[]"
    assert [verb for verb in [*VERBS, *ALIASES.values()] if verb not in "\n".join(text)] == []


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_every_option(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([verb, "--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"Usage: fistful {verb} ")
    options = [i for i, line in enumerate(lines) if line.startswith(("│ --", "│ *"))]
    assert options
    assert [lines[i] for i in options if len(lines[i].strip("│ ").split()) < 2 and len(lines[i + 1].strip("│ ")) == 0] == []


def test_a_mistyped_option_never_shows_a_traceback_in_a_process_of_its_own(here: Path) -> None:
    done = fistful("count", "a.tsv", "--out", "out", "--wokers", "2", cwd=here)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"fistful: Unknown option: --wokers. Did you mean --workers? fistful count {HELP}\n"


def test_what_to_type_next_can_be_pasted_whatever_the_paths(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("a b.tsv").write_text("red dog\n")
    assert run(["count", "a b.tsv", "--caption", "1", "--out", "my counts", "--no-progress"]) == 0
    assert capsys.readouterr().out.endswith(
        "next: fistful bags 'a b.tsv' --caption 1 --counts 'my counts' --out DATA --rule cap --kept 0.5\n"
    )


@pytest.mark.parametrize(
    "command", [["bags", "a.tsv", "--counts", "nope", "--out", "x"], ["verify", "nope"], ["train", "nope", "--out", "x"]]
)
def test_a_folder_that_is_not_there_is_said_not_to_be_there(here: Path, capsys: pytest.CaptureFixture[str], command: list[str]) -> None:
    assert run(command) == 2
    assert capsys.readouterr().err == "fistful: nope: no such folder\n"


def test_no_larger_budget_is_offered_where_no_row_is_left(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("bad.tsv").write_text(" \n")
    assert run(["count", "bad.tsv", "--caption", "1", "--out", "x", "--max-bad-fraction", "1", "--no-progress"]) == 3
    assert capsys.readouterr().err == (
        f"fistful: {here}/x: 1 of 1 rows refused (no_caption 1; the first: bad.tsv row 1: caption is empty or missing), none is left; "
        f"{here}/x/dead_letters has them\n"
    )


def test_what_was_passed_over_is_said_where_too_much_is_refused(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photo, text = Path("photos/0.png"), Path("photos/0.prose")
    photo.parent.mkdir()
    photo.write_bytes(b"")
    text.write_text("red fox")
    assert run(["count", "photos", "--out", "x", "--no-progress"]) == 3
    assert capsys.readouterr().err == (
        f"fistful: {here}/x: 1 of 1 rows refused (no_caption 1; the first: picture 0: caption is empty or missing), none is left; "
        f"{here}/x/dead_letters has them; "
        "passed over: 1 file of a kind that is not read (.prose), such as 0.prose: make TSV, CSV, JSONL, parquet or a tar of them\n"
    )


def test_an_output_without_a_name_is_refused(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["count", "a.tsv", "--out", ""]) == 2
    assert capsys.readouterr().err == "fistful: --out: is empty, expected a folder to write\n"
    assert sorted(path.name for path in here.iterdir()) == ["a.tsv", "rest"]


@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_for_a_verb_that_is_none_names_the_nearest(flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["evaluat", flag]) == 2
    assert capsys.readouterr().err.startswith('fistful: Unknown command "evaluat". Did you mean "evaluate"? Available commands: count, ')


def test_a_reader_that_stops_early_is_no_error(here: Path) -> None:
    script = f"set -o pipefail; {sys.executable} -m fistful --help | head -1"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, env=environment(), check=False)
    assert (done.returncode, done.stdout.split()[:2], done.stderr) == (0, ["Usage:", "fistful"], "")


def test_a_read_only_disk_ends_with_5_and_says_what_to_do_first(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_only(*_: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), "/mnt/out")

    monkeypatch.setattr("os.replace", read_only)
    assert run(["count", "a.tsv", "--out", "out"]) == 5
    assert capsys.readouterr().err == "fistful: Read-only file system (/mnt/out): choose another --out; the same command resumes\n"


def test_a_folder_of_the_wrong_kind_is_the_calls_fault(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["count", "a.tsv", "--out", "counts", "--no-progress"]) == 0
    assert run(["bags", "a.tsv", "--counts", "counts", "--out", "data", "--min-count", "1", "--no-progress"]) == 0
    Path("foreign").mkdir()
    Path("foreign/config.json").write_text('{"model_type": "clip"}')
    capsys.readouterr()
    wrong = [
        ("train counts --out run", "counts: has no index/*.parquet; expected a folder that fistful bags wrote"),
        (
            "train data --out run",
            "data: no sample has a picture, and training needs some; "
            "fistful bags copies them from tars, folders of images, and tables that name them",
        ),
        (
            "label rest --model x --like counts --out y",
            "--like counts: was written by fistful count, expected a folder that fistful bags wrote",
        ),
        ("bags a.tsv --counts data --out x", "--counts data: was written by fistful bags, expected a folder that fistful count wrote"),
        (
            "count a.tsv --out foreign",
            f"{here}/foreign/config.json: is not fistful's (expected the fields format, verb, config, inputs and id); "
            "choose another folder",
        ),
    ]
    for command, message in wrong:
        assert run(command.split()) == 2
        assert capsys.readouterr().err == f"fistful: {message}\n"


def test_a_signal_to_stop_ends_with_4_and_one_line_wherever_a_verb_is(tmp_path: Path) -> None:
    fifo = tmp_path / "options.toml"
    os.mkfifo(fifo)
    command = [sys.executable, "-m", "fistful", "evaluate", "run", "--data", "set", "--out", "out", "--config", str(fifo)]
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    with open(fifo, "w"):  # it is there as soon as the command reads its options
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (4, "fistful: stopped; the same command resumes\n")


def test_the_best_step_is_that_of_the_weights_that_were_kept_by_the_set_given_first(here: Path) -> None:
    rows = [
        {"step": 2, "scores": {"a acc1": 0.5, "z acc1": 0.25}},
        {"step": 3, "loss": 1.0},
        {"step": 4, "scores": {"a acc1": 0.25, "z acc1": 0.5}},
    ]
    Path("metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    end = "zero-shot, one prompt a class: z acc1 50.0 %, a acc1 25.0 %"
    assert scores_text(Path(), ["z acc1", "a acc1"]) == end  # without --evaluate-every no other weights are kept
    Path("best").mkdir()
    assert scores_text(Path(), ["z acc1", "a acc1"]) == f"{end}; best in step 4: z acc1 50.0 %, a acc1 25.0 %, in best"
    assert scores_text(Path(), ["a acc1", "z acc1"]).endswith("; best in step 2: a acc1 50.0 %, z acc1 25.0 %, in best")


def test_a_set_to_evaluate_on_that_is_not_there_is_called_by_its_option(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["train", "rest", "--out", "out", "--evaluate-on", "nowhere"]) == 2
    assert capsys.readouterr().err == "fistful: --evaluate-on nowhere: no such file or folder\n"
