"""Writing samples: their members in the shard and their rows of the index, many at a time.

What a sample's files hold does not depend on which samples are written together. Texts are put
together as columns and headers as one table of bytes; a million samples would not forgive less.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from json.encoder import encode_basestring_ascii  # pyright: ignore[reportPrivateImportUsage]

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fistful.bow.draw import sample_key
from fistful.bow.ragged import Ragged
from fistful.bow.store.images import ImageHeader
from fistful.bow.store.index import INDEX_SCHEMA, LIKELY
from fistful.bow.store.shard import PADDING, Sink, tar_headers

NO_IMAGE = ImageHeader("", 0, 0)

WRITE_BYTES = 1 << 20
"""Bytes of members gathered before they are written and hashed in one go."""


@dataclasses.dataclass(frozen=True, slots=True)
class SampleColumns:
    """What is written of n samples; a column that is the same in all of them is one value."""

    unit: int
    numbers: np.ndarray
    """int64: row of each in its unit."""
    captions: pa.ListArray
    words: Ragged
    """Word ids of the full bags, in the order of first appearance; for pseudo-labels best first."""
    texts: list[str]
    """What each KEY.txt says."""
    source_keys: list[str]
    sources: str | list[str]
    extra: str | list[str]
    scores: np.ndarray | None = None
    """Beside the words of pseudo-bags; None for real ones."""
    likely: Ragged | None = None
    """The likeliest words of pseudo-labels, likeliest first."""
    likely_shares: np.ndarray | None = None
    """Their probabilities."""
    images: Sequence[bytes | None] | None = None
    extensions: list[str] | None = None
    headers: list[ImageHeader] | None = None


class SampleWriter:
    """Appends samples to a tar and collects their index rows.

    Args:
        tar: What to write to.
        words: The vocabulary's words.
        schema: Columns of the index: LABELLED_SCHEMA for samples with likeliest words.
    """

    def __init__(self, tar: Sink, words: list[str], schema: pa.Schema = INDEX_SCHEMA) -> None:
        self._tar, self._schema = tar, schema
        self._quoted = pa.array([encode_basestring_ascii(word) for word in words], pa.string())
        self._tables: list[pa.Table] = []

    def add(self, samples: SampleColumns) -> None:
        """Append samples: each image's bytes unchanged, KEY.json, KEY.txt."""
        n = len(samples.numbers)
        if not n:
            return
        keys = [sample_key(samples.unit, number) for number in samples.numbers.tolist()]
        texts = [text.encode("utf-8") for text in samples.texts]
        images = self._write(keys, samples, self._jsons(samples), texts)
        offsets = pa.array(samples.words.offsets, pa.int32())
        values = pa.array(samples.words.values.astype(np.uint32))
        scores = pa.array(np.zeros(0), pa.float32()) if samples.scores is None else pa.array(samples.scores, pa.float32())
        headers = samples.headers or [NO_IMAGE] * n
        columns = {
            "key": pa.array(keys, pa.string()),
            "source_key": pa.array(samples.source_keys, pa.string()),
            "captions": samples.captions,
            "words": pa.ListArray.from_arrays(offsets, values),
            "scores": pa.ListArray.from_arrays(offsets if samples.scores is not None else pa.array([0] * (n + 1), pa.int32()), scores),
            "pseudo": pa.repeat(samples.scores is not None, n),
            **images,
            "width": pa.array([header.width for header in headers], pa.int32()),
            "height": pa.array([header.height for header in headers], pa.int32()),
            "source": _column(samples.sources, n),
            "extra": _column(samples.extra, n),
        }
        if samples.likely is not None and samples.likely_shares is not None:
            lists = (samples.likely.values.astype(np.uint32), samples.likely_shares.astype(np.float16))
            ends = pa.array(samples.likely.offsets, pa.int32())
            columns |= {name: pa.ListArray.from_arrays(ends, pa.array(of)) for name, of in zip(LIKELY, lists, strict=True)}
        self._tables.append(pa.table(columns, schema=self._schema))

    def _write(self, keys: list[str], samples: SampleColumns, jsons: list[bytes], texts: list[bytes]) -> dict[str, pa.Array]:
        """Write the members and return the index's columns of images."""
        json_headers = tar_headers([f"{key}.json" for key in keys], list(map(len, jsons)))
        text_headers = tar_headers([f"{key}.txt" for key in keys], list(map(len, texts)))
        images = samples.images or [None] * len(keys)
        names = [f"{key}.{samples.extensions[i]}" if samples.extensions and images[i] is not None else "" for i, key in enumerate(keys)]
        image_headers = tar_headers(names, [len(image or b"") for image in images]) if samples.images else []
        parts: list[bytes] = []
        offsets, sizes, at, gathered = [], [], self._tar.tell(), 0
        for i, image in enumerate(images):
            offset = size = 0
            if image is not None:
                size, offset = len(image), at + gathered + 512
                parts += (image_headers[i], image, PADDING[-size % 512])
                gathered += 512 + size + -size % 512
            offsets.append(offset)
            sizes.append(size)
            json, text = jsons[i], texts[i]
            parts += (json_headers[i], json, PADDING[-len(json) % 512], text_headers[i], text, PADDING[-len(text) % 512])
            gathered += 1024 + len(json) + -len(json) % 512 + len(text) + -len(text) % 512
            if gathered >= WRITE_BYTES:
                self._tar.write(b"".join(parts))
                parts, at, gathered = [], self._tar.tell(), 0
        self._tar.write(b"".join(parts))
        return {
            "image": pa.array(names, pa.string()),
            "image_offset": pa.array(offsets, pa.int64()),
            "image_size": pa.array(sizes, pa.int64()),
        }

    def _jsons(self, samples: SampleColumns) -> list[bytes]:
        """Return what each KEY.json says: canonical, as json.dumps would write it with sorted keys and no spaces."""
        captions = _quoted_lists(samples.captions)
        bags = join_words(self._quoted, samples.words, ",")
        scores = _score_lists(samples)
        pseudo = "false" if samples.scores is None else "true"
        sources = _texts(samples.sources, len(bags))
        extra = [samples.extra] * len(bags) if isinstance(samples.extra, str) else samples.extra
        keys = map(encode_basestring_ascii, samples.source_keys)
        return [
            f'{{"bag":[{bag}],"caption":{first},"captions":[{every}],"extra":{encode_basestring_ascii(more)},"pseudo":{pseudo},'
            f'"scores":[{score}],"source":{source},"source_key":{key}}}'.encode("ascii")
            for bag, (first, every), more, score, source, key in zip(bags, captions, extra, scores, sources, keys, strict=True)
        ]

    def index(self) -> pa.Table:
        """Return the index of what was added."""
        return pa.concat_tables(self._tables or [self._schema.empty_table()])


def join_words(words: pa.StringArray, bags: Ragged, between: str) -> list[str]:
    """Return the words of each bag as one text."""
    taken = words.take(pa.array(bags.values))
    return pc.binary_join(pa.ListArray.from_arrays(pa.array(bags.offsets, pa.int32()), taken), between).to_pylist()


def _quoted_lists(captions: pa.ListArray) -> list[tuple[str, str]]:
    """Return each list's first text, and all of its texts, as JSON has them."""
    quoted = list(map(encode_basestring_ascii, captions.flatten().to_pylist()))
    offsets = captions.offsets.to_numpy() - captions.offsets[0].as_py()
    if len(quoted) == len(captions) and (np.diff(offsets) == 1).all():
        return list(zip(quoted, quoted, strict=True))
    ends = offsets.tolist()
    return [(quoted[a] if b > a else '""', ",".join(quoted[a:b])) for a, b in itertools.pairwise(ends)]


def _score_lists(samples: SampleColumns) -> list[str]:
    if samples.scores is None:  # a caption says it; an empty list would have no type where other tools look at some samples
        return [("1.0," * n)[:-1] for n in samples.words.lengths().tolist()]
    spelt, ends = list(map(float.__repr__, samples.scores.astype(np.float64).tolist())), samples.words.offsets.tolist()
    return [",".join(spelt[a:b]) for a, b in itertools.pairwise(ends)]


def _texts(value: str | list[str], n: int) -> list[str]:
    return [encode_basestring_ascii(value)] * n if isinstance(value, str) else list(map(encode_basestring_ascii, value))


def _column(value: str | list[str], n: int) -> pa.Array:
    return pa.array([value] * n if isinstance(value, str) else value, pa.string())
