"""A Dask cluster that is there already: does a scheduler answer, and have its workers fistful? And what Beam leaves undone with Dask."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from fistful.errors import MachineError, UsageError

ADDRESS, FILE, TIMEOUT = "--dask_client_address=", "--dask_scheduler_file=", "--dask_connection_timeout="
"""Beam's options for it."""
ANSWERS_SECONDS = 3.0
"""How long a scheduler has to answer. Dask itself waits half a minute for one, and for ever for a file or for a mute port."""


def is_named(arguments: list[str]) -> bool:
    """Return whether the arguments for Beam name a cluster."""
    return any(argument.startswith((ADDRESS, FILE)) for argument in arguments)


def check_cluster(arguments: list[str], folder: Path) -> None:
    """Ask the scheduler that the arguments for Beam name who it is, and its workers whether they have fistful.

    Raises:
        MachineError: If no scheduler answers, or a worker lacks fistful: it would die of the first unit, and be waited for.
        UsageError: If the address is none.
    """
    address, scheduler_file, given = (_value(arguments, option) for option in (ADDRESS, FILE, TIMEOUT))
    seconds = float(given) if given.isdigit() else ANSWERS_SECONDS
    where = address or scheduler_file
    try:
        found = asyncio.run(asyncio.wait_for(_identity(address, scheduler_file), seconds))
    except TimeoutError:
        raise _nobody(folder, f"no Dask scheduler answers at {where} within {seconds:g} s") from None
    except ValueError as error:
        option = (ADDRESS if address else FILE).strip("-=")
        raise UsageError(f"--beam-option {option}={where}: {error}; expected such as tcp://HOST:8786") from None
    except (OSError, TypeError) as error:
        raise _nobody(folder, f"no Dask scheduler answers at {where} ({str(error).splitlines()[0]})") from None
    except Exception:  # noqa: BLE001 - who speaks another language may make Dask raise anything: MemoryError, for one
        raise _nobody(folder, f"what answers at {where} is no Dask scheduler") from None
    if not isinstance(found, dict) or found.get("type") != "Scheduler":
        raise _nobody(folder, f"what answers at {where} is no Dask scheduler")
    lacking = _workers_without_fistful(found["address"])
    if lacking:
        raise MachineError(
            f"{folder}: fistful is not installed where Dask's worker {lacking[0]} runs; once it is, the same command resumes"
        )


def _nobody(folder: Path, what: str) -> MachineError:
    return MachineError(f"{folder}: {what}; once one does (dask scheduler starts one), the same command resumes")


async def _identity(address: str, scheduler_file: str) -> Any:
    from distributed.core import rpc

    while not address:  # Dask writes the file when its scheduler has started
        try:
            address = json.loads(Path(scheduler_file).read_bytes())["address"]
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            await asyncio.sleep(0.1)
    async with rpc(address) as scheduler:
        return {**await scheduler.identity(), "address": address}


def _workers_without_fistful(address: str) -> list[str]:
    from distributed import Client

    def has_fistful() -> bool:  # inside: sent as it is, since a worker without fistful could not import it
        import importlib.util

        return importlib.util.find_spec("fistful") is not None

    with Client(address, set_as_default=False) as client:
        return sorted(worker for worker, has in client.run(has_fistful).items() if not has)


def _value(arguments: list[str], option: str) -> str:
    return next((argument.removeprefix(option) for argument in arguments if argument.startswith(option)), "")


def clients() -> list[Any]:
    """Return Beam's connection to Dask, which it leaves open; [] where there is none."""
    from distributed import default_client

    try:
        return [default_client()]
    except ValueError:
        return []


def let_workers_die() -> None:
    """Keep Dask's nannies, which are threads of this process, from starting again what is about to be killed."""
    from distributed.core import Status
    from distributed.nanny import Nanny

    for nanny in [*Nanny._instances]:
        nanny.status = Status.closing
