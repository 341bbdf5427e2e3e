"""`evaluate`: models, evaluation sets and prompt sets in, a results folder out.

One pass over the images of a set serves all prompt sets of a model. Results that an interrupted run
left behind are not computed again.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fistful.bow.store.file_names import tell_apart
from fistful.bow.store.files import hash_file, is_url, local_out, write_json
from fistful.bow.store.folders import folder_at, in_store
from fistful.bow.store.identity import semantic_values
from fistful.bow.store.manifest import claim, fingerprint, finish
from fistful.bow.store.model_folder import split_pair
from fistful.bow.words import WordOptions
from fistful.errors import UsageError
from fistful.pipelines.read.find_files import table_kind
from fistful.pipelines.read.source_options import AUTO
from fistful.training.device import choose_device, device_named
from fistful.training.model.encoder import Encoder, check_pictures, texts_or
from fistful.training.model.load import load_encoder

from .compare import compare_with_first
from .evaluate_config import EvaluateConfig
from .results import SUMMARY
from .score import EvalJob, score_set
from .score_captions import score_captions
from .sets import duplicates
from .sets.caption_set import CaptionSet, is_captioned, open_captions, open_source
from .sets.evaluation_set import EvalSet
from .sets.layouts import is_written_by_us, open_set
from .sets.set_options import ALL, SetOptions
from .tasks.classifier import check_head
from .tasks.coverage import Coverage, read_coverage
from .tasks.probe import ITSELF, same_classes
from .tasks.prompts import NAMED

FORMAT = 1
"""Version of results.json."""

COLUMNS = ("caption", "image", "label", "delimiter")
"""Options that earlier versions had not."""

DEFAULTS = EvaluateConfig()


def evaluate(*models: str, data: tuple[str, ...], out: str | Path, config: EvaluateConfig = DEFAULTS) -> Path:
    """Say what models are worth: as zero-shot classifiers, and at matching images with captions and words.

    Args:
        models: Run folders, model folders, open_clip local folders, or `module:function` specs.
        data: Evaluation sets: class folders, archives of them, tables of pictures and labels, or CLIP_benchmark's layout; for
            retrieval, captioned pictures in any shape that `count` reads; for tagging too, data folders that `bags` wrote.
        out: Folder for the results.
        config: How.

    Returns:
        The folder: results.json, results/*.json (a result each, as CLIP_benchmark writes them),
        predictions/, classes/, words/ and dead_letters/ in parquet.

    Raises:
        UsageError: If the call is at fault.
        DataError: If a set is broken, has too many bad images, or a model gives no numbers.
    """
    data = (data,) if isinstance(data, str) else tuple(data)
    if not models or not data:
        raise UsageError("evaluate: expected at least one model, and at least one set with --data")
    folder = local_out(out)
    config = dataclasses.replace(config, device=choose_device(config.device))
    sets = _unique(_open(spec, names, config) for spec, names in zip(data, _names_for(config, data), strict=True))
    probes = _probes(config, data, sets)
    coverage = read_coverage(config.vocabulary) if config.vocabulary else None
    encoders = [load_encoder(spec, config.device) for spec in models]
    _check_towers(encoders, sets, config)
    labels = tell_apart([model_name(encoder.name) for encoder in encoders])
    if claim(folder, "evaluate", _identity(config), _fingerprints(encoders, sets, probes, coverage, config)):
        return folder
    training = duplicates.training_hashes(config.trained_on) if config.trained_on else None
    summary = []
    for label, encoder in zip(labels, encoders, strict=True):
        for eval_set, probe in zip(sets, probes, strict=True):
            if isinstance(eval_set, CaptionSet):
                summary += score_captions(folder, label, encoder, eval_set, coverage, training, config)
            else:
                summary += score_set(folder, _job(label, encoder, (eval_set, probe), coverage, training, config))
    write_json(folder, SUMMARY, {"format": FORMAT, "results": summary, "comparisons": compare_with_first(folder, summary)})
    finish(folder, {}, {result["dataset"]: result["content"] for result in summary})
    return folder


def model_name(spec: str) -> str:
    """Return what results call a model: its folder without the way there, or the function that makes it; of A+B it is A.

    >>> model_name("runs/bags/model"), model_name("runs/bags/best"), model_name("package.module:function {}")
    ('bags', 'bags-best', 'package.module:function')
    """
    spec = (split_pair(spec) or (spec,))[0].removeprefix("local-dir:")
    folder, function = folder_at(spec if is_url(spec) else os.path.abspath(spec)), spec.partition(" ")[0]  # resolve() would follow links
    if ":" in function and not folder.exists():
        return function
    run = folder.parent.name
    return {"model": run, "best": f"{run}-best"}.get(folder.name, folder.name)


def _job(
    model: str,
    encoder: Encoder,
    sets: tuple[EvalSet, EvalSet | None],
    coverage: Coverage | None,
    training: np.ndarray | None,
    config: EvaluateConfig,
) -> EvalJob:
    eval_set, probe = sets
    covered, df = coverage.of_classes(eval_set.classes) if coverage else (None, None)
    return EvalJob(model, encoder, eval_set, coverage.options if coverage else WordOptions(), covered, df, training, config, probe)


def _open(spec: str, names: str | None, config: EvaluateConfig) -> EvalSet | CaptionSet:
    path = folder_at(spec)
    ours = is_written_by_us(path)
    if in_store(path) and not ours:
        raise UsageError(f"--data {spec}: was not written by fistful; of a store only its data folders are read, fetch other sets first")
    options = config.set_options()
    if not ours and not (path.exists() and is_captioned(path, options)):
        return open_set(spec, names, options=options)
    if names and len(config.names) > 1:
        raise UsageError(f'--names {names}: {spec} has captions and no classes; give "" in its place')
    if asked := [*(f"--label {config.label}" for _ in range(config.label != AUTO)), *(options.asked() if ours else ())]:
        kind = "was written by fistful, without columns" if ours else "has captions and no labels"
        raise UsageError(f"{asked[0]}: {spec} {kind}; leave it out")
    if ours and config.split:
        raise UsageError(f"--split {config.split}: {spec} was written by fistful, without splits; fistful bags --split takes one")
    return open_captions(spec) if ours else open_source(spec, options)


def _names_for(config: EvaluateConfig, data: Sequence[Any]) -> list[str | None]:
    if len(config.names) not in (0, 1, len(data)):
        raise UsageError(f"--names: found {len(config.names)} tables for {len(data)} data sets, expected one, or one each")
    names = config.names or ("",)
    return [name or None for name in (names * len(data) if len(names) == 1 else names)]


def _probes(config: EvaluateConfig, data: Sequence[str], sets: Sequence[EvalSet | CaptionSet]) -> list[EvalSet | None]:
    """Open the set that each set's images are compared with."""
    if not config.probe:
        return [None] * len(sets)
    if len(config.probe) != len(sets):
        raise UsageError(f"--probe: found {len(config.probe)} for {len(sets)} data sets, expected one each, or {ITSELF}")
    for probe, spec in zip(config.probe, data, strict=True):
        if probe and Path(probe).resolve() == Path(spec).resolve():
            raise UsageError(f"--probe {probe}: is the set itself, each image its own neighbour; write --probe {ITSELF}")
    names = _names_for(config, sets)
    columns = dataclasses.replace(config.set_options(), split="")
    return [_probe(spec, one, table, columns) for spec, one, table in zip(config.probe, sets, names, strict=True)]


def _probe(spec: str, eval_set: EvalSet | CaptionSet, names: str | None, columns: SetOptions) -> EvalSet | None:
    if not spec:
        return None
    if isinstance(eval_set, CaptionSet):
        raise UsageError(f'--probe {spec}: {eval_set.name} has captions and no classes; give "" in its place')
    is_table = table_kind(Path(spec).name) is not None and Path(spec).is_file()  # a set of another shape has no columns
    probe = eval_set if spec == ITSELF else open_set(spec, names, "--probe", columns if is_table else ALL)
    same_classes(probe, eval_set)
    return probe


def _check_towers(encoders: Sequence[Encoder], sets: Sequence[EvalSet | CaptionSet], config: EvaluateConfig) -> None:
    """Refuse a model that lacks what its sets ask, before any other is evaluated."""
    captions = any(isinstance(one, CaptionSet) for one in sets)
    classes = not all(isinstance(one, CaptionSet) for one in sets)
    if config.rerank and not captions:
        raise UsageError(f"--rerank {config.rerank}: puts captions and pictures in order, and no set has captions; leave it out")
    for encoder in encoders:
        check_pictures(encoder)
        if config.rerank and getattr(encoder, "matcher", None) is None:
            raise UsageError(f"--rerank {config.rerank}: {encoder.name} has no matching head; train with --match-weight 1, or leave it out")
        if captions or (classes and {*config.prompts} != {"head"}):
            by_head = "give it by itself, with --prompts head, to evaluate it"
            instead = "captions are found by it; class folders can be asked with --prompts head" if captions else by_head
            with texts_or(instead):
                encoder.embed_texts(["red"])
        if classes and "head" in config.prompts:
            check_head(encoder)


def _unique(sets: Iterator[EvalSet | CaptionSet]) -> list[EvalSet | CaptionSet]:
    opened = list(sets)
    return [dataclasses.replace(s, name=name) for s, name in zip(opened, tell_apart([s.name for s in opened]), strict=True)]


def _identity(config: EvaluateConfig) -> dict[str, Any]:
    """Return the semantic fields; of files only the name, for their content is among the inputs."""
    values = device_named(semantic_values(config))
    values["max_bad_fraction"] = 0.1  # a limit changes no result; evaluations of earlier versions keep their names
    if not config.rerank:
        values.pop("rerank")  # evaluations of earlier versions keep their names
    for name in COLUMNS:
        if values[name] == AUTO:
            values.pop(name)
    values["prompts"] = [name if name in NAMED else Path(name).name for name in config.prompts]
    values["names"] = [Path(name).name for name in config.names]
    values["probe"] = [name if name == ITSELF else Path(name).name for name in config.probe]
    values["trained_on"] = [Path(name).name for name in config.trained_on]
    values["vocabulary"] = None if config.vocabulary is None else Path(config.vocabulary).name
    return values


def _fingerprints(
    encoders: Sequence[Encoder],
    sets: Sequence[EvalSet | CaptionSet],
    probes: Sequence[EvalSet | None],
    coverage: Coverage | None,
    config: EvaluateConfig,
) -> dict[str, Any]:
    files = [name for name in config.prompts if name not in NAMED]
    return {
        "models": [encoder.fingerprint for encoder in encoders],
        "data": [s.fingerprint(config.progress) for s in sets],
        "probe": [_of_probe(probe, sets, config) for probe in probes],
        "trained_on": [fingerprint(folder_at(name)) for name in config.trained_on],
        "vocabulary": coverage.fingerprint if coverage else None,
        "prompts": [hash_file(Path(name))["sha256"] for name in files],
    }


def _of_probe(probe: EvalSet | None, sets: Sequence[EvalSet | CaptionSet], config: EvaluateConfig) -> Any:
    if probe is None or any(probe is one for one in sets):
        return None if probe is None else ITSELF
    return probe.fingerprint(config.progress)
