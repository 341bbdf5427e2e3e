"""Functions of a user's own that make a model: package.module:function, and JSON arguments after a space."""

from __future__ import annotations

import importlib
from typing import Any

from fistful.bow.store.files import parse_json
from fistful.errors import FistfulError, UsageError


def call_factory(spec: str) -> Any:
    """Return what `package.module:function` returns, called with the JSON object after the space.

    Raises:
        UsageError: If there is no such function, its arguments are no JSON object, or it raises an error.
    """
    place, _, arguments = spec.partition(" ")
    module_name, _, function_name = place.partition(":")
    try:
        function: Any = getattr(importlib.import_module(module_name), function_name)
    except (ImportError, AttributeError, ValueError) as error:
        here = "; PYTHONPATH=. finds modules of this folder" if function_name and isinstance(error, ModuleNotFoundError) else ""
        raise UsageError(f"{place}: {error}; expected package.module:function{here}") from None
    try:
        keywords = parse_json(arguments or "{}")
    except ValueError as error:
        raise UsageError(f"{spec}: arguments are not JSON ({error})") from None
    if not isinstance(keywords, dict):
        raise UsageError(f"{spec}: arguments are {arguments}, expected a JSON object")
    try:
        return function(**keywords)
    except (FistfulError, ModuleNotFoundError, OSError, MemoryError):  # the command line knows what to say of these
        raise
    except Exception as error:
        raise UsageError(f"{place}: {type(error).__name__}: {error} (raised by this function of yours)") from error
