"""The cards of data folders: README.md in the hub's form, which `datasets` reads too; made of what the folder says of itself.

Types stand in it because `datasets` otherwise guesses them from five samples: an empty list there has no type, and a kind of
picture that comes later is an error. The digest keeps its cache from giving one folder's samples for those of another with
the same name: what it caches it calls by the folder's name and by this card. Nothing here depends on where, when or by whom
a folder was made.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from fistful.bow.store.files import write_bytes, write_json
from fistful.bow.store.identity import canonical_json, sha256_hex
from fistful.bow.store.manifest import read_config
from fistful.wording import counted

from .engine.work import read_stats
from .read.units import Unit

CARD = "README.md"
GIVEN_BY = {
    "head": "the model's word head",
    "knn": "votes of the nearest captioned pictures",
    "prompts": "the words through the model's text tower",
    "mean": "the model and the nearest captioned pictures, the mean of both",
}
"""What the sources of words are called for people."""
KINDS = ("jpg", "jpeg", "png", "webp")
"""What pictures are called in shards."""
JSON_FIELDS = {
    "bag": "list: string",
    "caption": "dtype: string",
    "captions": "list: string",
    "extra": "dtype: string",
    "pseudo": "dtype: bool",
    "scores": "list: float64",
    "source": "dtype: string",
    "source_key": "dtype: string",
}
"""Fields of KEY.json, and their types as the hub spells them."""
SIZES = ((10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"), (10**7, "1M<n<10M"), (10**8, "10M<n<100M"))
"""The hub's classes of sizes, with the number of samples below which each is right."""


def picture_kinds(index: pa.Table) -> dict[str, int]:
    """Return how many pictures of each kind a unit has, for its stats.

    >>> picture_kinds(pa.table({"image": ["0.jpg", "1.png", "", "2.jpg"]}))
    {'jpg_pictures': 2, 'jpeg_pictures': 0, 'png_pictures': 1, 'webp_pictures': 0}
    """
    ends = [name.rpartition(".")[2] for name in index["image"].to_pylist()]
    return {f"{kind}_pictures": ends.count(kind) for kind in KINDS}


def describe_shards(folder: Path, units: Sequence[Unit], stats: dict[str, Any]) -> None:
    """Write what other tools want to know of shards: shards/sizes.json, and cards for the folder and for shards/ alone.

    Args:
        folder: A data folder, all its units done.
        units: The plan.
        stats: The sums of their stats.
    """
    done = {number: stats for number, _, stats in read_stats(folder, [unit.number for unit in units])}
    write_json(folder, "shards/sizes.json", {f"{number:05d}.tar": unit["kept"] for number, unit in done.items()})
    digest = _digest(done.values(), "shards/")
    write_bytes(folder, CARD, shards_card(read_config(folder), stats, digest, "shards/*.tar").encode())
    write_bytes(folder, f"shards/{CARD}", shards_card(read_config(folder), stats, digest, "*.tar").encode())


def describe_embeddings(folder: Path, units: Sequence[Unit], stats: dict[str, Any]) -> None:
    """Write the card of a folder of embeddings, all of whose units are done."""
    digest = _digest((stats for _, _, stats in read_stats(folder, [unit.number for unit in units])), "embeddings/")
    config = read_config(folder)
    what, encoder = config["config"]["what"], config["inputs"]["encoder"]
    front = [*_size(stats["embeddings"]), "tags:", "- fistful", "- embeddings", *_configs("embeddings/*.parquet", digest)]
    text = f"""# Embeddings of {what}

{counted(stats["embeddings"], "embedding")} of {what}, {stats["dim"]} numbers each, of length 1, written by `fistful embed`.

- `embeddings/UNIT.parquet`: `key`, `source_key`{", `caption`" if what == "captions" else ""}, `extra` and `embedding`, a row each
- `embeddings/UNIT.npy`: the same rows, float32, for numpy and faiss
- the model's fingerprint: `{encoder}`
{_refused(stats)}"""
    write_bytes(folder, CARD, _card(front, text).encode())


def _digest(done: Iterable[dict[str, Any]], start: str) -> str:
    """Return what names the content of all units' files below a folder."""
    return sha256_hex(
        canonical_json({name: record["sha256"] for unit in done for name, record in unit["files"].items() if name.startswith(start)})
    )


def shards_card(config: dict[str, Any], stats: dict[str, Any], digest: str, path: str) -> str:
    """Return the card of a data folder.

    Args:
        config: Its config.json.
        stats: The sums of its units' stats.
        digest: What names the content of its shards.
        path: Where these lie, seen from the card.
    """
    pictures = {kind: n for kind in KINDS if (n := stats.get(f"{kind}_pictures", 0))}
    language = config["inputs"].get("word_options", {}).get("language", "")
    front = ["language:", f"- {language}"] if len(language) == 2 and language != "xx" else []
    front += ["task_categories:", "- zero-shot-image-classification"] if pictures else []
    front += [*_size(stats["kept"]), "tags:", "- fistful", "- webdataset", "- bag-of-words", *_configs(path, digest), *_features(pictures)]
    labelled = config["verb"] == "label"
    title = "Pictures with words that a model gave" if labelled else "Captions as bags of words"
    kinds = ", ".join(f"{n:,} {kind}" for kind, n in pictures.items()) or "none"
    text = f"""# {title}

{counted(stats["kept"], "sample")} in webdataset shards, written by `fistful {config["verb"]}`.

| | |
|---|---|
{_table(_facts(config, stats) | {"pictures": kinds, "rows that were read": f"{stats['rows']:,}"})}

Each sample has {"a picture, " if pictures else ""}`KEY.txt`, for trainers that take one text, and `KEY.json`:

- `bag`: {"its words, best first" if labelled else "the distinct words of its captions, in the order in which they appear"}
- `scores`: how surely each word is right{", measured on held-out pictures" if labelled else "; 1.0, for a caption says it"}
- `captions`, `caption`: {"empty" if labelled else "all of its captions, and the first"}
- `source`, `source_key`, `extra`: where it came from, and what else was said of it there
{_refused(stats)}
```python
from datasets import load_dataset

samples = load_dataset("FOLDER", split="train")
```
"""
    return _card(front, text)


def _facts(config: dict[str, Any], stats: dict[str, Any]) -> dict[str, str]:
    """Return what is worth knowing of one kind of folder."""
    options = config["config"]
    found = {"words in bags": f"{stats['words_in_bags']:,}", "configuration": f"`{config['id']}`"}
    if config["verb"] == "label":
        right, low, high, chance = (stats[f"held_out_precision{end}"] for end in ("", "_low", "_high", "_by_chance"))
        found["given by"] = GIVEN_BY[options["by"]]
        found["the model's fingerprint"] = f"`{config['inputs']['encoder']}`"
        found["right on held-out pictures"] = f"{right:.1%} (95 % interval {low:.1%} to {high:.1%}, by chance {chance:.1%})"
        return found
    says = {
        "caption": "the first caption",
        "bag": "the whole bag",
        "balanced": f"what balancing left ({stats['kept_fraction_realised']:.1%})",
    }
    found["captions"] = f"{stats['captions']:,}"
    found["words of the vocabulary"] = f"{stats['vocabulary_words']:,}"
    found["balancing"] = " ".join(
        [options["rule"], *(f"{k} {options[k]:g}" for k in ("threshold", "kept", "alpha", "n_words") if options[k])]
    )
    found["`KEY.txt` says"] = says[options["txt"]]
    return found


def _refused(stats: dict[str, Any]) -> str:
    reasons = ", ".join(f"{reason} {n:,}" for reason, n in sorted(stats["refused"].items()))
    return f"\nRefused rows: {reasons}; each stands in `dead_letters/` with its reason.\n" if reasons else ""


def _table(facts: dict[str, str]) -> str:
    return "\n".join(f"| {name} | {value} |" for name, value in facts.items())


# The part between the dashes


def _card(front: list[str], text: str) -> str:
    return "\n".join(["---", *front, "---", "", text.rstrip("\n"), ""])


def _size(n: int) -> list[str]:
    return ["size_categories:", f"- {next((name for limit, name in SIZES if n < limit), 'n>100M')}"]


def _configs(path: str, digest: str) -> list[str]:
    """Return where the samples lie."""
    start = ["configs:", "- config_name: default", f"  description: content {digest}", "  data_files:"]
    return [*start, "  - split: train", f'    path: "{path}"']


def _features(pictures: Iterable[str]) -> list[str]:
    """Return the type of every field."""
    lines = ["dataset_info:", "  features:"]
    for kind in pictures:
        lines += [f"  - name: {kind}", "    dtype: image"]
    lines += ["  - name: json", "    struct:"]
    for name, kind in JSON_FIELDS.items():
        lines += [f"    - name: {name}", f"      {kind}"]
    for name in ("txt", "__key__", "__url__"):
        lines += [f"  - name: {name}", "    dtype: string"]
    return lines
