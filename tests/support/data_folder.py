"""Small data folders of coloured squares, written as fistful bags writes them."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from fistful.bow import vocabulary
from fistful.bow.balance import Balance
from fistful.bow.draw import mix_all, sample_key
from fistful.bow.store import manifest
from fistful.bow.store.files import atomic_file
from fistful.bow.store.index import INDEX_SCHEMA, LABELLED_SCHEMA, unit_name
from fistful.bow.store.shard import add_file, end_tar
from fistful.bow.store.tables import write_table
from fistful.bow.vocabulary import Limits, choose_words, count_table
from fistful.bow.words import WordOptions

COLOURS = {"red": (220, 30, 30), "green": (30, 200, 40), "blue": (30, 40, 220), "yellow": (230, 220, 40)}
SHAPES = ("square", "bar", "stripe")


def picture(colour: str, shape: str, number: int) -> Image.Image:
    """Draw a shape in a colour on grey noise."""
    noise = mix_all(number, np.arange(80 * 96 * 3)).astype(np.uint8).reshape(80, 96, 3)
    pixels = (noise // 8 + 100).astype(np.uint8)
    width, height = {"square": (40, 40), "bar": (70, 12), "stripe": (12, 70)}[shape]
    left, top = number % 20, number // 20 % 8
    pixels[top : top + height, left : left + width] = COLOURS[colour]
    return Image.fromarray(pixels)


def sample(number: int) -> tuple[str, str]:
    """Return the colour and the shape of a sample."""
    return list(COLOURS)[number % 4], SHAPES[number // 4 % 3]


def picture_bytes(number: int, kind: str = "JPEG") -> bytes:
    """Return a sample's picture as a file."""
    buffer = io.BytesIO()
    picture(*sample(number), number).save(buffer, kind)
    return buffer.getvalue()


def make_data(
    folder: Path,
    n: int = 48,
    units: int = 2,
    broken: Sequence[int] = (),
    pseudo: bool = False,
    words: Sequence[str] = (),
    wordless: Sequence[int] = (),
    pictures: int = 2**32,
) -> str:
    """Write a finished data folder of n samples and return its path.

    Args:
        folder: Where.
        n: Samples; of every 12, each colour and shape once.
        units: Shards that they are spread over.
        broken: Samples whose picture is no picture.
        pseudo: Whether the samples are pseudo-labelled.
        words: More words of the vocabulary.
        wordless: Samples with an empty bag.
        pictures: Different ones; the samples after these have them again.
    """
    manifest.claim(
        folder, "bags", {"n": n, "broken": list(broken), "wordless": list(wordless)}, {"word_options": dataclasses.asdict(WordOptions())}
    )
    names = [*COLOURS, *SHAPES, *words]
    counts = count_table(names, np.full(len(names), 48), np.array([12] * 4 + [16] * 3 + [3] * len(words)))
    words_table = choose_words(counts, 40, Limits(), Balance(rule="cap", kept=0.7))
    vocabulary.write_vocabulary(folder, words_table)
    ids = words_table.ids()
    for unit in range(units):
        rows = []
        with atomic_file(folder, unit_name("shards", unit, "tar")) as tar:
            for row, number in enumerate(range(unit, n, units)):
                colour, shape = sample(number)
                key = sample_key(unit, row)
                data = b"no picture" if number in broken else picture_bytes(number % pictures)
                offset = add_file(tar, f"{key}.jpg", data)
                captions = [f"A {colour} {shape}.", f"This {shape} is {colour}."]
                bag = [] if number in wordless else [ids[colour], ids[shape]]
                rows.append((key, str(number), captions, bag, [], pseudo, f"{key}.jpg", offset, len(data), 96, 80, "", "{}"))
            end_tar(tar)
        columns = [pa.array(column, field.type) for column, field in zip(zip(*rows, strict=True), INDEX_SCHEMA, strict=True)]
        write_table(folder, unit_name("index", unit, "parquet"), pa.table(columns, schema=INDEX_SCHEMA))
    manifest.finish(folder, {}, {})
    return str(folder)


def change_column(folder: str, name: str, change: Callable[[int, Any], Any]) -> str:
    """Write another column into the index of each unit, by row and value, and return the folder."""
    for path in sorted(Path(folder).glob("index/*.parquet")):
        table = pq.read_table(path)
        place = table.schema.get_field_index(name)
        values = [change(row, value) for row, value in enumerate(table[name].to_pylist())]
        pq.write_table(table.set_column(place, table.schema.field(place), pa.array(values, table.schema.field(place).type)), path)
    return folder


def add_likely(folder: str, likely: Callable[[int], tuple[Sequence[int], Sequence[float]]]) -> str:
    """Give each row of each unit's index words and their shares, as fistful label writes them, and return the folder."""
    for path in sorted(Path(folder).glob("index/*.parquet")):
        table = pq.read_table(path)
        words, shares = zip(*(likely(row) for row in range(table.num_rows)), strict=True)
        halves = [np.array(some, np.float16) for some in shares]
        for name, column in (("likely", words), ("likely_shares", halves)):
            table = table.append_column(name, pa.array(column, LABELLED_SCHEMA.field(name).type))
        write_table(path.parent, path.name, table.cast(LABELLED_SCHEMA))
    return folder
