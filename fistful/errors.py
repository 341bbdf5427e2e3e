"""What can go wrong, and the exit code that says whose fault it was.

FistfulError
├── UsageError    2  the call or the configuration is at fault
├── DataError     3  the data is at fault
├── Interrupted   4  stopped from outside; the same command resumes
└── MachineError  5  disk, memory, a killed worker; the same command resumes

Everything else that escapes is a defect of ours and ends with 1.
"""

from __future__ import annotations


class FistfulError(Exception):
    """An error whose message is one line that a user can act on."""

    exit_code = 1


class UsageError(FistfulError):
    """The call or the configuration is at fault; the message says what to type."""

    exit_code = 2


class DataError(FistfulError):
    """The data is at fault: too many refused rows, a failed check, fingerprints that do not match."""

    exit_code = 3


class Interrupted(FistfulError):
    """The work was stopped from outside; the same command resumes it."""

    exit_code = 4


class MachineError(FistfulError):
    """The machine is at fault: disk full, out of memory, a worker killed; the same command resumes."""

    exit_code = 5
