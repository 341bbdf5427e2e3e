"""What strangers wrote reaches terminals clean: file names, captions, class names, in every line of every verb."""

from __future__ import annotations

import io
import os
import pty
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fistful.cli import run
from fistful.terminal import Shown, own_stream, show, show_in_line, shown_output
from fistful.wording import table
from tests.support.folders import environment

HOSTILE = "a\x1b]0;owned\x07\x1b[2J\x9b31m\u202egpj\u2066.exe\r\udce9"
SPELT = "a\\u001b]0;owned\\u0007\\u001b[2J\\u009b31m\\u202egpj\\u2066.exe\\u000d\\udce9"


def test_orders_are_spelt_out_and_letters_stay() -> None:
    assert show(HOSTILE) == SPELT
    assert show("été\t± 中文 עברית \U0001f469\u200d\U0001f680\n") == "été\t± 中文 עברית \U0001f469\u200d\U0001f680\n"
    assert show_in_line("a\nfistful: all is well\tb") == "a\\u000afistful: all is well\\u0009b"


@given(st.text())
def test_what_is_shown_has_no_order_left_and_stays_as_it_is_when_shown_again(text: str) -> None:
    found = show(text)
    assert [c for c in found if unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") and c not in "\n\t"] == []
    assert [c for c in found if unicodedata.bidirectional(c) in ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")] == []
    assert show(found) == found
    found.encode("utf-8")


def test_letters_that_a_stream_does_not_have_are_spelt_out_too() -> None:
    ascii_only = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    Shown(ascii_only).write("± 1\n")
    ascii_only.seek(0)
    assert ascii_only.read() == "\\xb1 1\n"


def test_streams_are_wrapped_once_and_given_back(capsys: pytest.CaptureFixture[str]) -> None:
    before = sys.stdout
    with shown_output():
        once = sys.stdout
        with shown_output():
            assert sys.stdout is once
            print("a\x1bb")
        assert own_stream(sys.stdout) is before
    assert sys.stdout is before
    assert capsys.readouterr().out == "a\\u001bb\n"


@pytest.mark.parametrize(
    ("command", "code", "said"),
    [
        (["count", HOSTILE, "--out", "x"], 2, f"fistful: {SPELT}: no file matches\n"),
        (["verify", "a\nfistful: every byte as written"], 2, "fistful: a\\u000afistful: every byte as written: no such folder\n"),
        (["classify", "m", HOSTILE, "--names", "n.txt"], 2, f"fistful: {SPELT}: no file matches\n"),
    ],
)
def test_an_error_names_what_is_at_fault_and_nothing_else(
    command: list[str], code: int, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(command) == code
    assert capsys.readouterr() == ("", said)


def test_words_and_samples_are_shown_clean_as_text_and_as_json(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import json

    monkeypatch.chdir(tmp_path)
    Path("a.tsv").write_text("caption\nred \x1b[31m dog \u202e\x9b1m\n")
    assert run(["count", "a.tsv", "--out", "counts", "--no-progress"]) == 0
    capsys.readouterr()
    assert run(["words", "counts", "--sample", "a.tsv", "--min-count", "1", "dog\x1b[2J"]) == 0
    assert show(text := capsys.readouterr().out) == text
    assert run(["words", "counts", "--sample", "a.tsv", "--min-count", "1", "--json"]) == 0
    printed = capsys.readouterr().out
    assert show(printed) == printed
    assert json.loads(printed)["tried"]["shown"][0]["captions"] == ["red \x1b[31m dog \u202e\x9b1m"]


def test_a_table_has_a_row_for_a_row_whatever_the_names() -> None:
    assert table([["model", "n"], ["a\n\x1b[2J", "1"]], {0}, rule=True) == [
        "model             n",
        "-------------------",
        "a\\u000a\\u001b[2J  1",
    ]


SCRIPT = """
import sys
from fistful.progress import progress_bar
with progress_bar("[red]a\\x1b]0;owned\\x07[/nothing]", 2) as update:
    update(1, "[b]\\x9bnote[/b]\\u202e")
    print("from within \\x1b]0;owned\\x07", file=sys.stderr)
"""


def test_a_progress_bar_gives_orders_of_its_own_only() -> None:
    ours, theirs = pty.openpty()
    process = subprocess.Popen([sys.executable, "-c", SCRIPT], stderr=theirs, env={**environment(), "TERM": "xterm", "COLUMNS": "160"})
    os.close(theirs)
    said = b""
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:  # a terminal whose other end is closed
            break
        if not part:
            break
        said += part
    os.close(ours)
    assert process.wait() == 0
    text = said.decode()
    assert "\x1b]0;" not in text
    assert "[red]a\\u001b]0;owned\\u0007[/nothing]" in text
    assert "[b]\\u009bnote[/b]\\u202e" in text
    assert "from within \\u001b]0;owned\\u0007" in text
    assert "\x1b[" in text  # the bar's own
