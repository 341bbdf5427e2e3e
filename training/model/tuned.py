"""Tuned models read back: what was learnt, put beside the model that it was learnt for."""

from __future__ import annotations

from pathlib import Path

from fistful.bow.store.files import read_json
from fistful.bow.store.model_folder import OWN_FILE, OWN_WEIGHTS_FILE
from fistful.errors import DataError, UsageError

from .export import Exported, Lineage, read_words
from .model import Model, Shape
from .pretrained import load_pretrained, start_from
from .tune import Tuned
from .weights import Pretrained, load_tensors


def read_tuned(folder: Path, name: str, base: str = "") -> Exported:
    """Read a tuned model.

    Args:
        folder: Its model/ folder.
        name: What the user calls it.
        base: The model that it was tuned from; empty: as it was called then.

    Raises:
        UsageError: If that model is not there.
        DataError: If it is another one, or the files do not fit each other.
    """
    about = read_json(folder / OWN_FILE)
    how, shape, lineage = Tuned(**about["tuned"]), Shape(**about["shape"]), Lineage(**about["lineage"])
    base = base or _where_it_lies(how.init, folder)
    pretrained = _load_base(name, base, how.init, lineage)
    model = Model(shape)
    start_from(model, pretrained, "both", base)
    model.tune(how, is_plain=True)
    tensors = load_tensors(folder / OWN_WEIGHTS_FILE)
    stats = tensors.pop("head_mean", None), tensors.pop("head_std", None)
    left = model.load_state_dict(tensors, strict=False)
    lacks = [key for key in left.missing_keys if not key.startswith("clip.") and not key.endswith(".seen")]
    if left.unexpected_keys or lacks:
        raise DataError(f"{folder}: {OWN_WEIGHTS_FILE} does not fit {OWN_FILE} ({[*left.unexpected_keys, *lacks][0]})")
    return Exported(model.eval(), lineage, *read_words(folder, shape, lineage), *stats)


def _where_it_lies(init: str, folder: Path) -> str:
    """Return where the base is looked for: where it was named from, or, from another place, beside the run as it was then."""
    beside = folder.parent.parent / init
    return str(beside) if not Path(init).exists() and beside.exists() else init


def _load_base(name: str, base: str, called: str, lineage: Lineage) -> Pretrained:
    where = f"if it has moved, {name.partition('+')[0]}+FOLDER says where it lies"
    try:
        found = load_pretrained(base)
    except UsageError as error:
        raise UsageError(f"{name}: was tuned from another model, and that is not to be had ({error}); {where}") from None
    if found.fingerprint() != lineage.init:
        raise DataError(
            f"{name}: was tuned from what was called {called} then (fingerprint {lineage.init[:12]}), {base} is another; {where}"
        )
    return found
