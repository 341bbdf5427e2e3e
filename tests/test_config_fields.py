"""Every option of every verb says whether it decides the output, and it is true."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import math
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fistful.bow.balance import Balance
from fistful.bow.store.identity import config_id, semantic_values, walk_fields
from fistful.commands import CONFIGS
from fistful.errors import UsageError
from fistful.pipelines.bags import BagsConfig, bags
from fistful.pipelines.count import CountConfig, count
from fistful.pipelines.engine.stage import Running
from fistful.pipelines.read.plan import PlanOptions
from fistful.training.train import train
from fistful.training.train_config import TrainConfig, changed, train_config
from tests.support.data_folder import make_data
from tests.support.folders import contents
from tests.support.pictures import picture

BASES: dict[str, list[dict[str, Any]]] = {
    "threshold": [{"rule": "cap", "threshold": 5.0}],
    "kept": [{"rule": "cap", "kept": 0.5}],
    "alpha": [{"rule": "budget", "n_words": 3, "alpha": 0.25}],
    "n_words": [{"rule": "budget", "n_words": 3}],
    "init_towers": [{"init": "folder"}],
    "train_image": [{"init": "folder"}],
    "tune": [{"init": "folder", "init_towers": "both"}],
    "merge": [{"init": "folder", "init_towers": "both", "tune": "lora"}],
    "pictures": [{"classes": "imagenet1k"}],
    "photo": [{"exclude": "photos.txt"}],
    "mask_rule": [{"mask_rate": 0.5}],
}
"""Fields that make sense only beside others: what stands beside them while they are changed."""

OTHERS = [7, 2, 0.25, 0.5, "other", "de", "2", "dask", "bag", "/", ("name",), ("other",), True, False]
"""Values to try for a field whose type does not list them."""


def groups(config: type) -> Iterator[type]:
    """Yield a configuration class and the option groups in it."""
    yield config
    for hint in typing.get_type_hints(config).values():
        if dataclasses.is_dataclass(hint):
            yield from groups(typing.cast(type, hint))


GROUPS = list(dict.fromkeys(group for config in CONFIGS for group in groups(config)))
FIELDS = [
    (group, field)
    for group in GROUPS
    for field in dataclasses.fields(group)
    if not dataclasses.is_dataclass(typing.get_type_hints(group)[field.name])
]


def candidates(group: type, name: str) -> list[Any]:
    """Return values to try for a field: those that its type lists, else some that may do."""
    hint = typing.get_type_hints(group)[name]
    listed = [
        value for part in (hint, *typing.get_args(hint)) if typing.get_origin(part) is typing.Literal for value in typing.get_args(part)
    ]
    return listed or OTHERS


def same_kind(a: Any, b: Any) -> bool:
    return type(a) is type(b) or (isinstance(a, float) and type(b) is int) or a is None


def pairs(group: type, name: str) -> Iterator[tuple[Any, Any]]:
    """Yield pairs of valid option groups that differ in this one field."""
    for beside in [*BASES.get(name, []), {}]:
        known = {key: value for key, value in beside.items() if key in {field.name for field in dataclasses.fields(group)}}
        for value in candidates(group, name):
            try:
                base = group(**known)
                if getattr(base, name) != value and same_kind(getattr(base, name), value):
                    yield base, dataclasses.replace(base, **{name: value})
            except UsageError:
                continue


def test_the_configurations_of_all_verbs_are_walked() -> None:
    assert {"CountConfig", "BagsConfig", "TrainConfig", "EvaluateConfig"} <= {config.__name__ for config in CONFIGS}
    assert Balance in GROUPS
    assert Running in GROUPS


@pytest.mark.parametrize(("group", "field"), FIELDS, ids=[f"{group.__name__}.{field.name}" for group, field in FIELDS])
def test_no_field_takes_a_number_that_cannot_be_computed_with(group: type, field: dataclasses.Field[Any]) -> None:
    hint = typing.get_type_hints(group)[field.name]
    kinds = {hint, *typing.get_args(hint)}
    wrong = [math.nan, math.inf, -math.inf] if float in kinds else [2**63, -(2**63), 10**30] if int in kinds else []
    beside = {k: v for k, v in BASES.get(field.name, [{}])[0].items() if k in {f.name for f in dataclasses.fields(group)}}
    for value in wrong:
        with pytest.raises(UsageError) as error:
            group(**{**beside, field.name: value})
        assert f"--{field.name.replace('_', '-')} {value}" in str(error.value)
        assert "expected" in str(error.value)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.__name__)
def test_every_field_has_a_role_and_a_name_of_its_own(config: type) -> None:
    walked = [*walk_fields(config())]  # raises where a role is missing
    names = [name for name, _, _ in walked]
    assert sorted(set(names)) == sorted(names)
    assert len(walked) == sum(1 for group in groups(config) for field in FIELDS if field[0] is group)


FILES = sorted({inspect.getfile(group) for group in GROUPS})
CLASSES = {node.name: node for file in FILES for node in ast.parse(Path(file).read_text("utf-8")).body if isinstance(node, ast.ClassDef)}
"""Parsed before any test runs: Python 3.11 counts the depths of two threads' trees together, and a thread of another test may live."""


@pytest.mark.parametrize("group", GROUPS, ids=lambda group: group.__name__)
def test_every_field_is_frozen_keyword_only_and_explained(group: type) -> None:
    params = group.__dataclass_params__  # pyright: ignore[reportAttributeAccessIssue]
    assert (params.frozen, hasattr(group, "__slots__")) == (True, True)
    assert all(field.kw_only for field in dataclasses.fields(group))

    tree = CLASSES[group.__name__]
    named = [node.target.id for node in tree.body if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)]
    explained = [
        node.target.id
        for node, after in zip(tree.body, tree.body[1:], strict=False)
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and isinstance(after, ast.Expr)
    ]
    nested = [name for name in named if dataclasses.is_dataclass(typing.get_type_hints(group)[name])]
    assert sorted({*explained, *nested}) == sorted(named)


@pytest.mark.parametrize(("group", "field"), FIELDS, ids=[f"{group.__name__}.{field.name}" for group, field in FIELDS])
def test_a_semantic_change_changes_the_id_and_an_execution_change_does_not(group: type, field: dataclasses.Field[Any]) -> None:
    found = next(pairs(group, field.name), None)
    assert found is not None, f"no second value is known for {group.__name__}.{field.name}: add one to OTHERS or BASES"
    before, after = (config_id("verb", semantic_values(options), {}) for options in found)
    assert (before != after) == (field.metadata["role"] == "semantic")


PLAN = PlanOptions(unit_files=9)
BEAM = ("direct_runner_bundle_repeat=1",)
EXECUTION = [{"workers": 2, "max_bad_fraction": 0.9, "progress": True}, {"beam_option": BEAM}, {"engine": "portable"}]


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of real files: pictures and captions, one of them empty."""
    folder = tmp_path_factory.mktemp("photos")
    for i in range(25):
        (folder / f"{i}.png").write_bytes(picture((i * 9, 40, 200)))
        (folder / f"{i}.txt").write_text(f"a red dog beside {'a tree' * (i % 3)} and a house" if i else "")
    return folder


def make(photos: Path, out: Path, running: Running) -> dict[str, bytes]:
    counts = count(str(photos), out=out / "counts", config=CountConfig(plan=PLAN, running=running))
    bags(str(photos), counts=counts, out=out / "bags", config=BagsConfig(plan=PLAN, balance=Balance(rule="cap", kept=0.5), running=running))
    return contents(out)


def test_execution_options_of_the_data_jobs_change_no_byte(photos: Path, tmp_path: Path) -> None:
    execution = {name for name, role, _ in walk_fields(BagsConfig()) if role == "execution"}
    elsewhere = {"units", "dry_run", "images_root"}  # tests/pipelines/engine/test_engines.py, test_forecast.py, ../test_own_data.py
    assert execution - elsewhere == {name for change in EXECUTION for name in change}

    plain = make(photos, tmp_path / "plain", Running(progress=False))
    for n, change in enumerate(EXECUTION):
        assert make(photos, tmp_path / str(n), dataclasses.replace(Running(progress=False), **change)) == plain


def test_execution_options_of_training_change_no_byte(tmp_path: Path) -> None:
    changes = {"checkpoint_every": 2, "keep_checkpoints": 1, "progress": True, "cache_mb": 0, "decoders": 1, "tensorboard": True}
    changes |= {"cache_gb": 1.0, "force": True, "features": str(tmp_path / "features"), "grad_checkpointing": True}
    assert {name for name, role, _ in walk_fields(TrainConfig()) if role == "execution"} == {*changes}

    data = make_data(tmp_path / "data")
    short = train_config(steps=3, batch_size=4, warmup=1, progress=False, threads=1)
    plain = contents(train(data, out=tmp_path / "plain", config=short))
    assert contents(train(data, out=tmp_path / "changed", config=changed(short, **changes))) == plain
