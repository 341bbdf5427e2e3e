"""Configurations: roles of fields, one spelling of JSON, and the id."""

from __future__ import annotations

import dataclasses

import pytest

from fistful.bow.store.identity import canonical_json, config_id, execution, semantic, semantic_values, sha256_hex, walk_fields


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Inner:
    """A group."""

    rule: str = semantic("cap")
    """A rule."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Outer:
    """Options with a group."""

    inner: Inner = Inner()
    shards: tuple[int, ...] = semantic((1, 2))
    """Numbers."""
    workers: int = execution(1)
    """Not part of the identity."""


def test_fields_are_flattened_with_their_roles_and_semantic_ones_make_the_id() -> None:
    assert [*walk_fields(Outer())] == [("rule", "semantic", "cap"), ("shards", "semantic", (1, 2)), ("workers", "execution", 1)]
    assert semantic_values(Outer(workers=9)) == {"rule": "cap", "shards": [1, 2]} == semantic_values(Outer())
    assert config_id("count", {"a": 1}, []) == sha256_hex(b'{\n "config": {\n  "a": 1\n },\n "inputs": [],\n "verb": "count"\n}\n')[:16]


def test_a_field_without_a_role_is_our_defect() -> None:
    @dataclasses.dataclass(frozen=True)
    class Careless:
        """One forgot."""

        field: int = 1

    with pytest.raises(TypeError, match=r"^Careless.field must be declared semantic\(\) or execution\(\)$"):
        [*walk_fields(Careless())]


def test_json_has_one_spelling() -> None:
    assert canonical_json({"b": [1.5, None], "a": "é\n"}) == b'{\n "a": "\\u00e9\\n",\n "b": [\n  1.5,\n  null\n ]\n}\n'
    with pytest.raises(ValueError, match=r"^Out of range float values"):
        canonical_json(float("nan"))
