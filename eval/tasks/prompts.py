"""Prompts: what is said of a class to the text tower.

`name` is the bare name (a tower trained on bags never saw "a photo of a"), `openai80` and `simple7`
are CLIP's sets, `bag` is the name's words, `set` the templates that the data set brings, `head` asks
the word head instead of the text tower, with the name's words; anything else is a file with a
template a line, {c} in place of the name.

>>> fill(["a photo of a {c}."], "cat")
['a photo of a cat.']
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import pyarrow as pa

from fistful.bow.store.file_names import alike
from fistful.bow.store.plain_text import read_lines
from fistful.bow.words import Analyzer, WordOptions, first_appearances
from fistful.errors import UsageError
from fistful.training.model.encoder import Encoder

from ..sets.class_names import ClassName

NAMED = ("name", "bag", "openai80", "simple7", "set", "head")
KNN, CAPTIONS = "knn", "captions"
"""What results call a probe, and retrieval, where others name their prompts."""


@dataclasses.dataclass(frozen=True, slots=True)
class Prompts:
    """One way to prompt for the classes of a set."""

    name: str
    texts: list[list[str]]
    """The prompts of each class, whose features are averaged; for the word head the words of its names, phrases as one."""


def check_prompts(names: Sequence[str]) -> None:
    """Refuse unknown prompt sets before anything is loaded.

    Raises:
        UsageError: For a name that is neither a set's nor a file's.
    """
    if not names:
        raise UsageError(f"--prompts: expected one or more of {', '.join(NAMED)} or a file of templates")
    for name in names:
        if name not in NAMED and not Path(name).is_file():
            raise UsageError(f"--prompts {name}: expected one of {', '.join(NAMED)}, or a file of templates such as 'a photo of a {{c}}.'")
    if len({alike(prompts_label(name)) for name in names}) < len(names):
        raise UsageError(f"--prompts {' '.join(names)}: expected each set once, and files that are called by different names")


def prompts_label(name: str) -> str:
    """Return what results call a prompt set: its name, or its file's; no file is called as what is no file.

    >>> prompts_label("openai80"), prompts_label("mine.txt"), prompts_label("mine/openai80.txt")
    ('openai80', 'mine', 'openai80 (file)')
    """
    if name in NAMED:
        return name
    stem = Path(name).stem
    return f"{stem} (file)" if alike(stem) in (*NAMED, KNN, CAPTIONS) else stem


def build_prompts(name: str, classes: Sequence[ClassName], *, own: Sequence[str], options: WordOptions, synonyms: bool) -> Prompts:
    """Write the prompts of each class.

    Args:
        name: One of NAMED, or a file of templates.
        classes: C classes.
        own: Templates that the data set brings, for the prompt set "set".
        options: How a name becomes words (`options_for`), for the prompt sets "bag" and "head".
        synonyms: Whether a class is also called by its other names.

    Raises:
        UsageError: If the templates are missing or have no {c}.
    """
    names = [entry.names(synonyms) for entry in classes]
    if name == "head":
        return Prompts(name, _words(names, options))
    if name == "bag":
        return Prompts(name, _bags(names, options))
    say = _sayer(name, own)
    return Prompts(prompts_label(name), [[text for one in several for text in say(one)] for several in names])


def _sayer(name: str, own: Sequence[str]) -> Callable[[str], list[str]]:
    if name == "name":
        return lambda c: [c]
    if name in ("openai80", "simple7"):
        from open_clip import OPENAI_IMAGENET_TEMPLATES, SIMPLE_IMAGENET_TEMPLATES

        functions = OPENAI_IMAGENET_TEMPLATES if name == "openai80" else SIMPLE_IMAGENET_TEMPLATES
        return lambda c: [function(c) for function in functions]
    if name == "set" and not own:
        raise UsageError(
            "--prompts set: the data set brings no templates; CLIP_benchmark's layout has them in zeroshot_classification_templates.txt"
        )
    templates = (
        check_templates(own, "--prompts set: zeroshot_classification_templates.txt") if name == "set" else read_templates(Path(name))
    )
    return lambda c: fill(templates, c)


def read_templates(path: Path) -> list[str]:
    """Read a file of templates.

    Raises:
        UsageError: If there are none, or one has no {c}.
    """
    return check_templates(
        read_lines(path, f"--prompts {path}", "a template on each line, with {c} for the class name"), f"--prompts {path}"
    )


def check_templates(lines: Sequence[str], where: str) -> list[str]:
    """Return the templates among lines, stripped; blank lines are none.

    Raises:
        UsageError: If there are none, or one has no {c}: it would say the same of every class.
    """
    for number, line in enumerate(map(str.strip, lines), start=1):
        if line and "{c}" not in line:
            raise UsageError(f"{where} row {number}: found {line!r}, expected {{c}} where the class name goes")
    templates = [line.strip() for line in lines if line.strip()]
    if not templates:
        raise UsageError(f"{where}: has no template")
    return templates


def fill(templates: Sequence[str], name: str) -> list[str]:
    """Put a name into templates; braces in either stay what they are."""
    return [template.replace("{c}", name) for template in templates]


def options_for(encoder: Encoder, otherwise: WordOptions) -> WordOptions:
    """Return how names become words for a model: as the captions did that it learnt from.

    Args:
        encoder: The model.
        otherwise: What is taken where it does not say; its head's words of several words are phrases then.
    """
    if encoder.word_options is not None:
        return encoder.word_options
    phrases = "".join(f"{word}\n" for word in encoder.words or () if " " in word)
    return dataclasses.replace(otherwise, phrases=otherwise.inlined().phrases + phrases) if phrases else otherwise


def class_words(names: Sequence[str], options: WordOptions) -> list[list[str]]:
    """Return the words of each name as `fistful count` would find them, each once."""
    analyzer = Analyzer(options)
    ids = first_appearances(analyzer.analyse(pa.array(names, pa.string())))
    return [[analyzer.words[i] for i in row] for row in ids]


def _words(names: Sequence[Sequence[str]], options: WordOptions) -> list[list[str]]:
    """Return the words of all names of each class, each once."""
    words = iter(class_words([name for several in names for name in several], options))
    return [list(dict.fromkeys(word for _ in several for word in next(words))) for several in names]


def _bags(names: Sequence[Sequence[str]], options: WordOptions) -> list[list[str]]:
    """Return the names as bags; a name without words ("The Who") stays as it is."""
    flat = [name for several in names for name in several]
    bags = iter([" ".join(words) or name for words, name in zip(class_words(flat, options), flat, strict=True)])
    return [[next(bags) for _ in several] for several in names]
