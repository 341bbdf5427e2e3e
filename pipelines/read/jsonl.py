"""Rows of JSONL files: an object a line."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from typing import Any

from fistful.bow.store.dead_letters import Refused
from fistful.bow.store.plain_text import MAX_TEXT, SURROGATE
from fistful.errors import UsageError

from .beginning import begin
from .delimited import Found, TableColumns, batch_of_found, cut, places_of
from .rows import RowBatch, extra_json, letters_only, make_letter
from .source_options import AUTO, CAPTIONS, SourceOptions, split_names, usual_name
from .units import Unit


def read_json_lines(
    unit: Unit, options: SourceOptions, blocks: Iterator[bytes], first: bytes | None, need_captions: bool
) -> Iterator[RowBatch]:
    """Yield the rows of a JSONL file: an object a line, whose field --caption is a text or a list of texts.

    Args:
        unit: Where the lines stand.
        options: Which fields to take.
        blocks: The unit's lines.
        first: The file's first line, where the unit starts further on: it says for all lines which field holds captions.
        need_captions: Refuse rows without a caption.

    Raises:
        UsageError: If columns are given by number.
    """
    if options.by_number:
        raise UsageError(f"{unit.path}: fields of JSON have names, found --caption {options.caption}")
    captions = Fields(options.caption, split_names(options.caption)) if options.caption != AUTO else None
    extra = Fields(options.columns, split_names(options.columns))
    image = options.image if options.names_images else None
    layout = TableColumns(unit, (), tuple((name, 0) for name in extra.parts), 0, places_of(unit), need_captions)
    number = 0
    try:
        for block in begin(unit, blocks):
            for piece in cut(block):
                lines = [line for line in piece.split(b"\n") if line and not line.isspace()]
                found, letters = [], []
                if captions is None and (first or lines):
                    captions = _usual_field(first or lines[0])
                for n, line in enumerate(lines, number):
                    try:
                        found.append(_json_row(n, line, captions or _usual_field(b""), extra, image, need_captions))
                    except Refused as refused:
                        letters.append(make_letter(refused.reason, unit, layout.places.at(n), refused.detail, line, _picture(line, image)))
                number += len(lines)
                yield batch_of_found(found, letters, len(lines), layout)
    except Refused as refused:
        yield letters_only([make_letter(refused.reason, unit, layout.places.at(number), refused.detail, b"")])


@dataclasses.dataclass(frozen=True, slots=True)
class Fields:
    """Fields that are asked for: a name with commas in it, or several names with commas between."""

    asked: str
    parts: list[str]

    def of(self, row: dict[str, Any]) -> list[str]:
        """Return the names that are meant in a row."""
        return [self.asked] if self.asked in row else self.parts


def _usual_field(line: bytes) -> Fields:
    """Return the field that holds captions, by a file's first line."""
    try:
        name = usual_name(json_object(line)) or CAPTIONS[0]
    except Refused:
        name = CAPTIONS[0]
    return Fields(name, [name])


def _json_row(n: int, line: bytes, asked: Fields, extra: Fields, image: str | None, need_captions: bool) -> Found:
    if len(line) >= MAX_TEXT - 1:
        raise Refused("bad_row", f"a row of more than {MAX_TEXT} bytes")
    fields = json_object(line)
    names = asked.of(fields)
    captions = [caption for name in names for caption in _caption_texts(name, fields.get(name))]
    if need_captions and not captions:
        shown = ", ".join(repr(n[:40]) for n in [*fields][:12])
        missing = not any(name in fields for name in names)
        raise Refused("no_caption", f"no field {names[0]!r} ({shown})" if missing else "caption is empty or missing")
    picture = fields.get(image) if image else ""
    others = extra_json({name: fields.get(name) for name in extra.of(fields)}) if extra.parts else "{}"
    return Found(n, captions, others, picture if isinstance(picture, str) else "")


def _picture(line: bytes, image: str | None) -> str:
    """Return which picture a refused row names; "" where that cannot be told."""
    try:
        name = json_object(line).get(image) if image else ""
    except Refused:
        return ""
    return name if isinstance(name, str) else ""


def _caption_texts(name: str, value: Any) -> list[str]:
    values = [] if value is None else value if isinstance(value, list) else [value]
    if not all(isinstance(v, str) for v in values):
        raise Refused("bad_json", f"expected {name!r} to be a text or a list of texts")
    if any(SURROGATE.search(v) for v in values):
        raise Refused("bad_caption", "holds half of a surrogate pair")
    return [text for v in values if (text := v.strip())]


_DECODER = json.JSONDecoder(parse_constant=lambda _: None)
"""NaN, which is not JSON but which pandas writes, says that there is no value."""


def json_object(data: bytes) -> dict[str, Any]:
    """Return the fields of a JSON object.

    Raises:
        Refused: bad_json, if it is none.
    """
    try:
        fields = _DECODER.decode(data.decode(json.detect_encoding(data), "surrogatepass"))
    except (ValueError, RecursionError) as error:
        raise Refused("bad_json", f"not JSON ({type(error).__name__})") from None
    if not isinstance(fields, dict):
        raise Refused("bad_json", f"expected an object, found {type(fields).__name__}")
    return fields
