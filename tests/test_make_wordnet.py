"""The relation table is made from WordNet's files as benchmarks/make_wordnet.py says, here from a few lines of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.make_wordnet import exception_rows, synset_rows

DATA = {
    "noun": [
        "00000100 03 n 01 entity 0 001 ~ 00000200 n 0000 | that which is",
        "00000200 05 n 02 animal 0 animate_being 0 002 @ 00000100 n 0000 ~ 00000300 n 0000 | a living thing",
        "00000300 05 n 02 dog 0 Canis_familiaris 0 001 @ 00000200 n 0000 | barks",
        "00000400 06 n 01 skateboard 0 001 @ 00000100 n 0000 | never tagged, but an artefact",
        "00000500 05 n 01 okapi 0 001 @ 00000200 n 0000 | never tagged, and none",
        "00000600 15 n 01 Paris 0 001 @i 00000100 n 0000 | a name",
        "00000700 18 n 01 dog 1 001 @ 00000100 n 0000 | a second sense",
    ],
    "verb": [
        "00000100 29 v 01 sleep 0 000 01 + 02 00 | rest",
        "00000200 29 v 01 snore 0 001 * 00000100 v 0000 01 + 02 00 | with noise",
    ],
    "adj": [
        "00000100 00 a 01 hot 0 001 ! 00000200 a 0101 | warm",
        "00000200 00 a 01 cold(ip) 0 001 ! 00000100 a 0101 | not warm",
    ],
    "adv": [],
}
INDEX = {
    "noun": [
        *("animal n 1 1 @ 1 1 00000200", "animate_being n 1 1 @ 1 0 00000200", "canis_familiaris n 1 1 @ 1 0 00000300"),
        *("dog n 2 1 @ 2 1 00000300 00000700", "entity n 1 1 ~ 1 1 00000100", "okapi n 1 1 @ 1 0 00000500"),
        *("paris n 1 1 @i 1 1 00000600", "skateboard n 1 1 @ 1 0 00000400"),
    ],
    "verb": ["sleep v 1 0 1 1 00000100", "snore v 1 1 * 1 1 00000200"],
    "adj": ["cold a 1 1 ! 1 1 00000200", "hot a 1 1 ! 1 1 00000100"],
    "adv": [],
}
SENSES = ["animal%1:03:00:: 00000200 1 9", "dog%1:05:00:: 00000300 1 40", "dog%1:18:00:: 00000700 2 2", "entity%1:03:00:: 00000100 1 0"]
SENSES += ["okapi%1:05:00:: 00000500 1 0", "paris%1:15:00:: 00000600 1 8", "skateboard%1:06:00:: 00000400 1 0"]
SENSES += ["sleep%2:29:00:: 00000100 1 3", "snore%2:29:00:: 00000200 1 1", "hot%3:00:00:: 00000100 1 5", "cold%3:00:00:: 00000200 1 4"]


@pytest.fixture
def wordnet(tmp_path: Path) -> Path:
    for name, lines in DATA.items():
        (tmp_path / f"data.{name}").write_text("".join(f"{line}\n" for line in ["  1 a licence", *lines]))
        (tmp_path / f"index.{name}").write_text("".join(f"{line}\n" for line in ["  1 a licence", *INDEX[name]]))
        (tmp_path / f"{name}.exc").write_text("")
    (tmp_path / "index.sense").write_text("".join(f"{line}\n" for line in SENSES))
    (tmp_path / "noun.exc").write_text("canes_familiares canis_familiaris\ndogges dog\nokapia okapi\n")
    return tmp_path


def test_rows_are_the_first_senses_of_known_words_and_what_stands_above_them(wordnet: Path) -> None:
    lines, known = synset_rows(wordnet)
    assert lines == [
        "0\tn\tentity:1\t\t\t",  # not known, but it names what stands above
        "1\tn\tanimal:1:9\t0\t\t",
        "2\tn\tdog:1:42\t1\t\t",  # tags of both senses; the second sense is no row
        "3\tn\tskateboard:1:0\t0\t\t",
        "4\tv\tsleep:1:3\t\t\t",
        "5\tv\tsnore:1:1\t\t\t4",
        "6\ta\thot:1:5\t\thot>cold\t",
        "7\ta\tcold:1:4\t\tcold>hot\t",
    ]
    assert known == {("animal", "n"), ("dog", "n"), ("skateboard", "n"), ("sleep", "v"), ("snore", "v"), ("hot", "a"), ("cold", "a")}


def test_exceptions_are_those_of_known_words(wordnet: Path) -> None:
    assert exception_rows(wordnet, synset_rows(wordnet)[1]) == ["n\tdogges\tdog"]
