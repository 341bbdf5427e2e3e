"""The manifest: every file of a finished folder with size and SHA-256, and who may use the folder.

A folder belongs to one configuration (`claim`), is finished once its manifest is there (`finish`),
and can be checked to the byte at any time (`verify`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from fistful.errors import DataError, UsageError

from .files import hash_file, read_json, record_of, write_json
from .folders import files_below, folder_at
from .identity import FORMAT, canonical_json, config_id, sha256_hex
from .kinds import is_hidden

T = TypeVar("T")

THREADS = 4
"""SHA-256 leaves the interpreter's lock, and a store answers several questions at a time."""

MANIFEST = "manifest.json"
CONFIG = "config.json"
LOGS = "logs"
STAGES = "stages"
"""Folders within, each with a claim of its own: what they hold serves other configurations of the folder too."""


def claim(folder: Path, verb: str, values: Mapping[str, Any], inputs: Any, *, write: bool = True, which: Callable[[], str] = str) -> bool:
    """Make the folder ours for this configuration, or find that it already is.

    Args:
        folder: The output folder; made if missing.
        verb: The command, such as "count".
        values: The semantic fields.
        inputs: Fingerprints of what is read.
        write: False to look only.
        which: Says of other inputs which of them differs, where that is known.

    Returns:
        True if the folder is finished already.

    Raises:
        UsageError: If the folder holds something else; the message names the fields that differ.
    """
    config = {
        "format": FORMAT,
        "verb": verb,
        "config": dict(values),
        "inputs": inputs,
        "id": config_id(verb, values, inputs),
    }
    path = folder / CONFIG
    # looked at before the config, which a twin of this job may write at any moment
    taken = folder.exists() and any(entry.name not in (LOGS, STAGES) for entry in folder.iterdir())
    if path.exists():
        found = read_config(folder)
        if found["id"] != config["id"]:
            way_out = "choose another --out" if (folder / MANIFEST).exists() else "choose another --out, or delete this unfinished folder"
            raise UsageError(f"{folder}: belongs to another configuration ({_difference(found, config, which)}); {way_out}")
    elif taken:
        raise UsageError(f"{folder}: is not empty and was not written by fistful {verb}; choose another --out")
    elif write:
        write_json(folder, CONFIG, config)
    return (folder / MANIFEST).exists()


def release(folder: Path) -> None:
    """Give up the claim on a folder of which nothing is left but its stages: another configuration may take it then."""
    (folder / CONFIG).unlink()


def _difference(found: Mapping[str, Any], wanted: Mapping[str, Any], which: Callable[[], str]) -> str:
    if found["verb"] != wanted["verb"]:
        return f"written by fistful {found['verb']}"
    old, new = found["config"], wanted["config"]
    fields = [f"{k}: {old.get(k)!r} there, {new.get(k)!r} asked" for k in sorted({*old, *new}) if old.get(k) != new.get(k)]
    if found["inputs"] != wanted["inputs"]:
        fields.append(": ".join(filter(None, ["other inputs", which() or _others(found["inputs"], wanted["inputs"])])))
    return "; ".join(fields)


def _others(old: Any, new: Any) -> str:
    """Return what inputs that differ are called; nothing of the files that are read, or where inputs have no names."""
    if not (isinstance(old, Mapping) and isinstance(new, Mapping)):
        return ""
    return ", ".join(k for k in sorted({*old, *new} - {"files", "bytes", "sha256"}) if old.get(k) != new.get(k))


def read_config(folder: Path) -> dict[str, Any]:
    """Read a folder's config.json.

    Raises:
        UsageError: If the folder is not one of ours, or was written by a newer version.
        DataError: If the file is broken.
    """
    config = read_json(folder / CONFIG)
    if not isinstance(config, dict) or not {"format", "verb", "config", "inputs", "id"} <= config.keys():
        raise UsageError(
            f"{folder / CONFIG}: is not fistful's (expected the fields format, verb, config, inputs and id); choose another folder"
        )
    if not isinstance(config["format"], int) or not isinstance(config["config"], dict) or not isinstance(config["verb"], str):
        raise DataError(f"{folder / CONFIG}: format, verb or config is not what fistful writes there; delete the folder and make it again")
    if config["format"] > FORMAT:
        raise UsageError(f"{folder}: has format {config['format']}, this version reads up to {FORMAT}; upgrade fistful")
    return config


def finish(folder: Path, records: Mapping[str, Mapping[str, Any]], content: Mapping[str, str]) -> str:
    """Write the manifest, last of all files, and return its digest.

    Args:
        folder: The folder to close.
        records: Sizes and hashes already known from writing; of a finished folder within its manifest knows them, and every
            other file is hashed here.
        content: SHA-256 of the inputs' content, by relative name.
    """
    sizes = _file_sizes(folder)
    known = {**_in_finished_folders(folder, sizes), **records}
    files = {name: known.get(name) or record_of(folder / name) for name in sizes}
    body = {"format": FORMAT, "id": read_config(folder)["id"], "input_content": dict(content), "files": files}
    digest = sha256_hex(canonical_json(body))
    write_json(folder, MANIFEST, {**body, "digest": digest})
    return digest


def _file_sizes(folder: Path) -> dict[str, int]:
    found = sorted(files_below(folder).items())
    return {name: size for name, size in found if name != MANIFEST and LOGS not in name.split("/")[:-1]}


def _leads_nowhere(path: Path) -> bool:
    return path.is_symlink() and not path.exists()


def _in_finished_folders(folder: Path, names: Iterable[str]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for name in names:
        within = name.removesuffix(MANIFEST)
        if within.endswith("/"):
            found |= {within + each: record for each, record in read_json(folder / name)["files"].items()}
    return found


def fingerprint(folder: Path) -> str:
    """Return the digest that names a finished folder's content.

    Raises:
        UsageError: If the folder is not finished.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder}: no such folder")
    if not (folder / MANIFEST).exists():
        if not (folder / CONFIG).exists():
            raise UsageError(f"{folder}: is no folder that fistful wrote (no {CONFIG})")
        raise UsageError(f"{folder}: is not finished (no {MANIFEST}); run the command that writes it again, it resumes")
    return manifest_part(folder, "digest", str)


def manifest_part(folder: Path, name: str, kind: type[T]) -> T:
    """Return one field of a folder's manifest, unchecked but for its kind.

    Raises:
        DataError: If the file is no manifest.
    """
    found = read_json(folder / MANIFEST)
    if not isinstance(found, dict) or not isinstance(found.get(name), kind):
        raise DataError(f"{folder / MANIFEST}: is not a manifest; fistful verify {folder} tells what else changed")
    return found[name]


def check_file(folder: Path, name: str) -> None:
    """Check that a file of a finished folder is still the one that its manifest names.

    Raises:
        DataError: If it has changed, or is not there.
    """
    expected = manifest_part(folder, "files", dict).get(name)
    if not (folder / name).is_file() or hash_file(folder / name) != expected:
        raise DataError(f"{folder / name}: is not the file that {MANIFEST} names; fistful verify {folder} tells what else changed")


def check_sizes(folder: Path, part: str) -> None:
    """Check that the files of a part of a finished folder are there and have the sizes that its manifest names: one listing.

    Args:
        folder: A finished folder.
        part: A folder in it.

    Raises:
        DataError: If one has another size, or is not there; the message names the first.
    """
    found = {f"{part}/{name}": size for name, size in files_below(folder / part).items()}
    for name, record in manifest_part(folder, "files", dict).items():
        if name.startswith(f"{part}/") and found.get(name) != record["size"]:
            there = f"has {found[name]:,} bytes" if name in found else "is missing"
            raise DataError(
                f"{folder / name}: {there}, expected {record['size']:,} bytes as {MANIFEST} says; "
                f"fistful verify {folder} tells what else changed"
            )


def verify(folder: str | Path) -> list[str]:
    """Return a line for each difference between a folder and its manifest; [] where there is none.

    Raises:
        UsageError: If the folder has no manifest.
    """
    folder = folder_at(folder)
    if not folder.is_dir():
        raise UsageError(f"{folder}: no such folder")
    if not (folder / MANIFEST).exists():
        raise UsageError(f"{folder}: no {MANIFEST}; either not a folder of fistful's, or not finished")
    try:
        manifest = read_manifest(folder)
    except DataError as error:
        return [str(error)]
    files = manifest["files"]
    sizes = _file_sizes(folder)
    problems = [f"{folder / name}: not in the manifest" for name in sizes if name not in files and not is_hidden(name)]
    there = [name for name in files if name in sizes and not _leads_nowhere(folder / name)]
    with ThreadPoolExecutor(THREADS) as pool:
        hashed = dict(zip(there, pool.map(lambda name: hash_file(folder / name), there), strict=True))
    for name, record in files.items():
        path = folder / name
        found = hashed.get(name)
        if found is None:
            problems.append(f"{path}: missing")
        elif found != record:
            what = "size" if found["size"] != record["size"] else "SHA-256"
            problems.append(f"{path}: {what} is {found[what.replace('-', '').lower()]}, expected {record[what.replace('-', '').lower()]}")
    if not problems and read_config(folder)["id"] != manifest["id"]:
        problems.append(f"{folder / CONFIG}: another configuration than the manifest's")
    return problems


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read a folder's manifest.

    Raises:
        DataError: If it is none, whatever JSON it may be, or not the one that was written.
    """
    path = folder / MANIFEST
    try:
        manifest = read_json(path)
        digest, files = manifest["digest"], manifest["files"]
        body = {key: value for key, value in manifest.items() if key != "digest"}
        fine = isinstance(manifest["id"], str) and all(isinstance(one, dict) and {*one} >= {"size", "sha256"} for one in files.values())
        same = canonical_json(manifest) == path.read_bytes() and sha256_hex(canonical_json(body)) == digest
    except (DataError, KeyError, TypeError, AttributeError, ValueError):
        fine = same = False
        manifest = {}
    if not manifest or not fine:
        raise DataError(f"{path}: is not a manifest")
    if not same:
        raise DataError(f"{path}: does not match its own digest")
    return manifest
