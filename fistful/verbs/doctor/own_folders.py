"""What `fistful doctor` says of folders that fistful wrote, and of model folders."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from fistful.bow.store.files import read_json
from fistful.bow.store.folders import parquet_source
from fistful.bow.store.manifest import MANIFEST, read_config, read_manifest
from fistful.bow.store.model_folder import CONFIG_FILE, is_student, read_open_clip_config
from fistful.bow.vocabulary import read_vocabulary

from ...errors import DataError, UsageError
from ...wording import counted, some
from .archives import Tally, judge_tars
from .finding import Finding

DATA_VERBS = ("count", "bags", "vectors", "label", "embed")
MANY_EMPTIED = 0.05
MANY_REFUSED = 0.05
OPEN_CLIP_WEIGHTS = (
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "open_clip_pytorch_model.bin",
    "open_clip_pytorch_model.pth",
    "fistful.safetensors",
)


def judge_own(folder: Path, walk: Callable[[list[Path]], Tally]) -> list[Finding]:
    """Say what state a folder of ours is in."""
    try:
        config = read_config(folder)
        finished = (folder / MANIFEST).exists()
        found = _judge_end(folder, config, finished)
        if config["verb"] in DATA_VERBS:
            found += _judge_units(folder, config, finished)
            if finished and config["verb"] != "embed":
                read_vocabulary(folder)
            if finished:
                found += _judge_stats(folder, read_json(folder / "stats.json"))
            tars = sorted((folder / "shards").glob("*.tar"))
            found += _judge_shards(folder, tars, walk(tars)) if tars else []
        elif config["verb"] == "train":
            found += _judge_run(folder, config, finished)
        elif config["verb"] == "distill" and finished:
            found += judge_model(folder / "model")
        return found + _judge_leftovers(folder)
    except (UsageError, DataError) as error:
        return [Finding("problem", str(error), "the folder cannot be used as it is", f"fistful verify {folder}")]


def _judge_end(folder: Path, config: dict[str, Any], finished: bool) -> list[Finding]:
    """Say whether the folder is finished, and whether its files are there in their sizes."""
    said = f"written by fistful {config['verb']}, configuration {config['id']}"
    if not finished:
        return [
            Finding(
                "warning", f"{said}, unfinished (no {MANIFEST})", "nothing else reads it", "the command that wrote it, again: it resumes"
            )
        ]
    files = read_manifest(folder)["files"]
    ok = Finding(
        "ok",
        f"{said}, finished: {counted(len(files), 'file')} in its {MANIFEST}",
        "",
        f"fistful verify {folder} (is every byte as written?)",
    )
    sizes = {name: (folder / name).stat().st_size if (folder / name).is_file() else None for name in files}
    wrong = [f"{name} ({'missing' if size is None else f'{size:,} bytes'})" for name, size in sizes.items() if size != files[name]["size"]]
    if not wrong:
        return [ok]
    said = f"{counted(len(wrong), 'file')} other than its {MANIFEST} says, {some(wrong)}"
    return [ok, Finding("problem", said, "changed since it was written", f"fistful verify {folder}")]


def _judge_units(folder: Path, config: dict[str, Any], finished: bool) -> list[Finding]:
    """Say which units are missing: what the highest number and the inputs tell, for the plan is not kept."""
    done = {int(path.stem) for path in (folder / "stats").glob("*.json")}
    seen = done | {
        int(path.stem) for kind in ("shards", "counts", "pairs", "index", "embeddings") for path in (folder / kind).glob("[0-9]*.*")
    }
    missing = sorted(set(range(max(seen, default=-1) + 1)) - done)
    if finished and not missing:
        return []
    if finished:
        means = "a finished folder has lost files"
        return [Finding("problem", f"units {some(missing, 8)} have no stats", means, f"fistful verify {folder}")]
    said = f"{counted(len(done), 'unit')} done of at least {max(len(seen), max(seen, default=-1) + 1):,}"
    among = f"; not done among them: {some(missing, 8)}" if missing else ""
    means = (
        f"the inputs were {counted(config['inputs']['files'], 'file')}"
        if isinstance(config["inputs"], dict) and "files" in config["inputs"]
        else ""
    )
    return [Finding("note", said + among, means, "units that are done are not done again")]


def _judge_stats(folder: Path, stats: dict[str, Any]) -> list[Finding]:
    rows, refused = stats.get("rows", 0), stats.get("refused", {})
    found = [Finding("ok", f"{rows:,} rows in, {stats.get('kept', 0):,} kept")]
    if refused:
        n_refused = sum(refused.values())
        reasons = ", ".join(f"{reason} {n:,}" for reason, n in sorted(refused.items(), key=lambda item: -item[1]))
        command = f"python -c \"import pyarrow.parquet as p; print(*p.read_table('{folder}/dead_letters').to_pylist()[:9], sep='\\n')\""
        level = "warning" if n_refused > MANY_REFUSED * rows else "note"
        found.append(
            Finding(level, f"{n_refused:,} refused ({reasons})", "each stands in dead_letters/ with its reason and place", command)
        )
    emptied = stats.get("bags_emptied", 0)
    if emptied > MANY_EMPTIED * max(1, stats.get("kept", 0)):
        said = f"balancing emptied {emptied:,} of {stats['kept']:,} bags, which kept one word each"
        command = f"fistful words {folder} --rule cap --kept 0.7 (tries another rule)"
        found.append(Finding("warning", said, "the rule thins short captions too hard", command))
    return found


def _judge_shards(folder: Path, tars: list[Path], tally: Tally) -> list[Finding]:
    """Compare shards, index and sizes.json."""
    found = [finding for finding in judge_tars(tally, len(tars)) if not (finding.level == "note" and "--images none" in finding.command)]
    wrong = []
    sizes = read_json(folder / "shards" / "sizes.json") if (folder / "shards" / "sizes.json").is_file() else {}
    for path in tars:
        n = tally.samples_of.get(path.name)
        index = folder / "index" / f"{path.stem}.parquet"
        try:
            n_index = pq.read_metadata(parquet_source(index)).num_rows if index.is_file() else None
        except (pa.ArrowInvalid, OSError):
            wrong.append(f"index/{index.name} (cannot be read)")
            continue
        told = {"index": n_index, "sizes.json": sizes.get(path.name, n)}
        wrong += [f"{path.name} ({n} samples, {k} has {v})" for k, v in told.items() if n is not None and v is not None and v != n]
        if n_index is None and sizes:
            wrong.append(f"{path.name} (not in the index)")
    if wrong:
        said = f"shards, index and sizes.json do not agree, {some(wrong)}"
        found.append(Finding("problem", said, "changed since it was written", f"fistful verify {folder}"))
    return found


def _judge_run(folder: Path, config: dict[str, Any], finished: bool) -> list[Finding]:
    found = []
    steps = sorted((folder / "checkpoints").glob("step-*.pt"))
    asked = config["config"].get("steps")
    if not finished and steps:
        last = int(steps[-1].stem.removeprefix("step-"))
        found.append(
            Finding("note", f"last checkpoint at step {last:,} of {asked:,}", "training goes on from there", "the same fistful train again")
        )
    elif not finished:
        found.append(Finding("note", "no checkpoint yet", "training would start afresh", "the same fistful train again"))
    if (folder / "logs" / "replaced.jsonl").is_file():
        n = len((folder / "logs" / "replaced.jsonl").read_text("utf-8").splitlines())
        found.append(
            Finding(
                "warning",
                f"{counted(n, 'broken picture')} replaced in training",
                "others were shown in their place",
                f"less {folder}/logs/replaced.jsonl",
            )
        )
    return found + (judge_model(folder / "model") if (folder / "model").is_dir() else [])


def _judge_leftovers(folder: Path) -> list[Finding]:
    left = [path for path in (folder / "logs" / "tmp").glob("*") if path.is_file()]
    if not left:
        return []
    size = sum(path.stat().st_size for path in left) / 1e6
    said = f"{counted(len(left), 'half-written file')} of killed workers ({size:.1f} MB) in {folder}/logs/tmp"
    return [Finding("note", said, "never read", f"rm -r {folder}/logs/tmp (when nothing is at work on the folder)")]


def judge_model(folder: Path) -> list[Finding]:
    """Say whether open_clip and fistful can load a model folder."""
    found = []
    if is_student(folder):
        said = "student of fistful distill: it embeds texts, and STUDENT+TEACHER pictures too"
        return [Finding("ok", said, "", f"fistful embed CAPTIONS --model {folder} --out E")]
    weights = [name for name in OPEN_CLIP_WEIGHTS if (folder / name).is_file()]
    config = _open_clip_config(folder)
    if isinstance(config, Finding):
        return [config]
    if not weights:
        means = "open_clip then fills the model with random numbers and only logs a warning"
        return [
            Finding(
                "problem", f"{folder} has no weights that open_clip reads", means, f"one of {some(OPEN_CLIP_WEIGHTS, 2)} beside its config"
            )
        ]
    found.append(Finding("ok", f"model with {some(weights)}", "", f"fistful evaluate {folder} --data SET --out RESULTS"))
    tokenizer = config.get("model_cfg", {}).get("text_cfg", {}).get("hf_tokenizer_name")
    if tokenizer and importlib.util.find_spec("transformers") is None:
        said = f"its tokenizer {tokenizer} is one of transformers', which is not installed"
        found.append(Finding("problem", said, "the model cannot read text", "pip install transformers"))
    if tokenizer and not (folder / "tokenizer.json").is_file():
        said = f"its tokenizer {tokenizer} does not lie beside it (tokenizer.json)"
        found.append(
            Finding("warning", said, "it would be fetched from a model hub", f"copy tokenizer.json and tokenizer_config.json to {folder}")
        )
    return found


def _open_clip_config(folder: Path) -> dict[str, Any] | Finding:
    if not (folder / CONFIG_FILE).is_file():
        return {}
    try:
        return read_open_clip_config(folder)
    except DataError as error:
        return Finding("problem", str(error), "open_clip cannot build the model", 'expected {"model_cfg": {...}, "preprocess_cfg": {...}}')
