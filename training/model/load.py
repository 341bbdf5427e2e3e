"""What a spec names, loaded: a run folder, its model/ folder, an open_clip local folder, package.module:function, or a student.

A student (`fistful distill`) embeds texts alone, without torch; STUDENT+TEACHER lets its teacher embed the pictures.
"""

from __future__ import annotations

from fistful.bow.store.folders import local_folder
from fistful.bow.store.model_folder import OWN_FILE, find_folder, is_student, split_student

from ..device import choose_device, keep_freed_memory
from .encoder import Encoder
from .factory import call_factory


def load_encoder(spec: str, device: str = "auto") -> Encoder:
    """Load the encoder that a spec names.

    Args:
        spec: A run folder, its model/ folder, an open_clip folder, module:function of one's own, a student, or STUDENT+TEACHER.
        device: auto, cpu or cuda; a function of one's own decides by itself.

    Raises:
        UsageError: If there is nothing of that name, a folder without weights, or no such device.
        DataError: If a folder's files do not fit each other, or a student is given a teacher that is not its own.
    """
    if (parts := split_student(spec)) is not None:
        from .student import student_encoder, with_pictures

        folder = find_folder(parts[0])
        assert folder is not None
        return with_pictures(student_encoder(folder, parts[0]), load_encoder(parts[1], device), spec)
    keep_freed_memory()
    folder = find_folder(spec)
    if folder is None:
        from .own import checked

        return checked(call_factory(spec), spec)
    if is_student(folder):
        from .student import student_encoder

        return student_encoder(folder, spec)
    from . import tower_encoders

    load = tower_encoders.own_encoder if (folder / OWN_FILE).exists() else tower_encoders.open_clip_encoder
    with local_folder(folder) as place:
        return load(place, spec, choose_device(device))
