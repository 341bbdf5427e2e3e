"""What a spec names, loaded: a run folder, its model/ folder, an open_clip local folder, or package.module:function."""

from __future__ import annotations

from fistful.bow.store.model_folder import OWN_FILE, find_folder

from ..device import choose_device
from .encoder import Encoder
from .factory import call_factory


def load_encoder(spec: str, device: str = "auto") -> Encoder:
    """Load the encoder that a spec names.

    Args:
        spec: A run folder, its model/ folder, an open_clip folder, or module:function of one's own.
        device: auto, cpu or cuda; a function of one's own decides by itself.

    Raises:
        UsageError: If there is nothing of that name, a folder without weights, or no such device.
        DataError: If a folder's files do not fit each other.
    """
    folder = find_folder(spec)
    if folder is None:
        from .own import checked

        return checked(call_factory(spec), spec)
    from . import towers

    load = towers.own_encoder if (folder / OWN_FILE).exists() else towers.open_clip_encoder
    return load(folder, spec, choose_device(device))
