"""What a spec names, loaded: a run folder, its model/ folder, an open_clip local folder, package.module:function, or a student.

A student (`fistful distill`) embeds texts alone, without torch; STUDENT+TEACHER lets its teacher embed the pictures. A tuned model
(`fistful train --tune`) needs the one that it was tuned from, where that was then, or as TUNED+BASE says.
"""

from __future__ import annotations

from fistful.bow.store.folders import local_folder
from fistful.bow.store.model_folder import OWN_FILE, find_folder, is_student, split_pair

from ..device import choose_device, keep_freed_memory
from .encoder import Encoder
from .factory import call_factory


def load_encoder(spec: str, device: str = "auto") -> Encoder:
    """Load the encoder that a spec names.

    Args:
        spec: A run folder, its model/ folder, an open_clip folder, module:function of one's own, a student,
            STUDENT+TEACHER, or TUNED+BASE.
        device: auto, cpu or cuda; a function of one's own decides by itself.

    Raises:
        UsageError: If there is nothing of that name, a folder without weights, or no such device.
        DataError: If a folder's files do not fit each other, or a student or a tuned model is given another one's teacher or base.
    """
    first, base = split_pair(spec) or (spec, "")
    folder = find_folder(first)
    if base and folder is not None and is_student(folder):
        from .student import student_encoder, with_pictures

        return with_pictures(student_encoder(folder, first), load_encoder(base, device), spec)
    keep_freed_memory()
    if folder is None:
        from .own import checked

        return checked(call_factory(spec), spec)
    if is_student(folder):
        from .student import student_encoder

        return student_encoder(folder, spec)
    from . import tower_encoders

    with local_folder(folder) as place:
        if (place / OWN_FILE).exists():
            return tower_encoders.own_encoder(place, first, choose_device(device), base)
        return tower_encoders.open_clip_encoder(place, spec, choose_device(device))
