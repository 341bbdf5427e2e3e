"""Options as frozen dataclasses whose fields say whether they decide the output.

A *semantic* field changes what is written and so is part of the identity; an *execution* field
(workers, progress) may not change one byte of it. `docs/decisions/0002-identity.md` has the reasons.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any, cast

from fistful.errors import UsageError

FORMAT = 1
"""Version of the folders that we write. A reader refuses a newer one."""


def semantic(default: Any = dataclasses.MISSING) -> Any:
    """Declare a field that decides the output: it is part of the identity."""
    return dataclasses.field(default=default, metadata={"role": "semantic"})


def execution(default: Any = dataclasses.MISSING) -> Any:
    """Declare a field that may not change a byte of the output: it is left out of the identity."""
    return dataclasses.field(default=default, metadata={"role": "execution"})


def check_numbers(config: Any) -> None:
    """Check that each number of an option group is one that can be computed with: finite, and below 2**63.

    Every group with numbers calls it at the end of its own checks, which know the range that makes sense.

    Raises:
        UsageError: If one is not.
    """
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        option = f"--{field.name.replace('_', '-')} {value}"
        if isinstance(value, float) and not math.isfinite(value):
            raise UsageError(f"{option}: expected a finite number")
        if isinstance(value, int) and abs(value) >= 2**63:
            raise UsageError(f"{option}: expected a number below 2**63")


def walk_fields(config: Any) -> Iterator[tuple[str, str, Any]]:
    """Yield (name, role, value) of every field, nested option groups flattened.

    Raises:
        TypeError: If a field was declared without a role.
    """
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            yield from walk_fields(value)
            continue
        role = field.metadata.get("role")
        if role not in ("semantic", "execution"):
            raise TypeError(f"{type(config).__name__}.{field.name} must be declared semantic() or execution()")
        yield field.name, role, value


def semantic_values(config: Any) -> dict[str, Any]:
    """Return the fields that decide the output, flattened, as plain JSON values."""
    return {
        name: [*cast(tuple[Any, ...], value)] if isinstance(value, tuple) else value
        for name, role, value in walk_fields(config)
        if role == "semantic"
    }


def canonical_json(value: Any) -> bytes:
    """Return the one spelling of a JSON value: keys sorted, ASCII, no NaN, a newline at the end."""
    return (json.dumps(value, sort_keys=True, ensure_ascii=True, allow_nan=False, indent=1) + "\n").encode("ascii")


def sha256_hex(data: bytes) -> str:
    """Return the SHA-256 of some bytes in hex."""
    return hashlib.sha256(data).hexdigest()


def versions_of(*packages: str) -> dict[str, str]:
    """Return the installed version of each package, "" for one that is not."""
    found = {}
    for name in packages:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = ""
    return found


def config_id(verb: str, values: Mapping[str, Any], inputs: Any) -> str:
    """Return the 16 hex digits that name a computation: what it does, how, and from what."""
    return sha256_hex(canonical_json({"verb": verb, "config": values, "inputs": inputs}))[:16]
