"""Options from a TOML file: what the command line takes from it, and what is refused."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from fistful.cli import run

HELP = "--help shows what there is."
OPTIONS = 'min-length = 2\ncaption = "cap \\"tion\\""\n'


def test_options_come_from_a_file_and_the_command_line_wins(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("options.toml").write_text("\ufeff" + OPTIONS, "utf-8")  # with a byte order mark, as Notepad writes it
    command = ["count", "a.tsv", "--out", "out", "--config", "options.toml", "--print-config"]
    assert run([*command, "--min-length", "3"]) == 0
    printed = capsys.readouterr().out
    assert tomllib.loads(printed) == {
        "input-format": "auto",
        "image": "auto",
        "images-root": "",
        "split": "",
        "delimiter": "auto",
        "unit-mb": 16.0,
        "unit-files": 10_000,
        "caption": 'cap "tion"',
        "header": False,
        "language": "en",
        "stop-words": False,
        "min-length": 3,
        "alphabetic": True,
        "deny": "",
        "phrases": "",
        "columns": "",
        "workers": 1,
        "engine": "local",
        "beam-option": [],
        "units": "",
        "dry-run": False,
        "max-bad-fraction": 0.2,
        "progress": True,
    }
    assert "min-length = 3  # semantic\n" in printed
    assert "workers = 1  # execution\n" in printed
    assert not Path("out").exists()

    Path("printed.toml").write_text(printed)  # what is printed may be given
    assert run(["count", "a.tsv", "--out", "out", "--config", "printed.toml", "--print-config"]) == 0
    assert capsys.readouterr().out == printed


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("min-lenght = 2\n", f'Unknown option: "[min-lenght]" from {{here}}/o.toml. Did you mean --min-length? fistful count {HELP}'),
        ('workers = "two"\n', f'Invalid value for [workers] from {{here}}/o.toml: unable to convert "two" into int. fistful count {HELP}'),
        ("min-length = \n", "--config o.toml: not TOML (Invalid value (at line 1, column 14))"),
        (
            "[count]\nmin-length = 2\n",
            "--config o.toml: [count] is not an option; options of one verb stand there without a table: min-length = 2",
        ),
    ],
)
def test_a_file_of_options_at_fault_is_refused(here: Path, capsys: pytest.CaptureFixture[str], text: str, message: str) -> None:
    Path("o.toml").write_text(text)
    assert run(["count", "a.tsv", "--out", "out", "--config", "o.toml"]) == 2
    assert capsys.readouterr() == ("", f"fistful: {message.format(here=here)}\n")
