"""The one place in graders that starts programs: a child that talks in lines and stops for certain.

Place: `load` starts its workers here, and tests their stub servers. Limits: Linux. A child that only inherits the
parent-death signal loses it when it enters a user namespace (prctl(2)), so it also holds the parent's pipe: a child
calls `die_with_parent` itself and ends when its standard input does.
"""

import contextlib
import ctypes
import os
import select
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from graders.errors import InfrastructureError

ROOT = Path(__file__).resolve().parents[1]
"""Folder that holds the packages; children start in it, so that `python -m` finds them and nothing else first."""

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_libc = ctypes.CDLL(None, use_errno=True)


def die_with_parent() -> None:
    """Asks the kernel to SIGKILL this process when the thread that started it ends (prctl(2))."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


class Child:
    """A program in a process group of its own; it writes lines to us, reads lines from us, and logs its errors.

    Args:
        argv: the program; it runs in the folder of the packages.
        log: file that takes its standard error.

    Raises:
        InfrastructureError: the program is not there.
    """

    def __init__(self, argv: Sequence[str], *, log: Path) -> None:
        self.log = log
        self._buffer = b""
        try:
            with log.open("ab") as errors:
                self._process = subprocess.Popen(
                    argv,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=errors,
                    cwd=ROOT,
                    start_new_session=True,
                    preexec_fn=die_with_parent,
                )
        except FileNotFoundError as error:
            raise InfrastructureError(
                f"the program {argv[0]!r} is not on this machine; `gpulab doctor` says how to get it"
            ) from error

    @property
    def pid(self) -> int:
        """Process id, which is also that of the group."""
        return self._process.pid

    def tell(self, line: str) -> None:
        """Sends it a line; one that has ended hears nothing."""
        assert self._process.stdin
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(line.encode() + b"\n")
            self._process.stdin.flush()

    def hear(self, seconds: float) -> str | None:
        """Its next line, without the line end; None when none came in time or it will say no more."""
        assert self._process.stdout
        deadline = time.monotonic() + seconds
        while b"\n" not in self._buffer:
            left = max(0.0, deadline - time.monotonic())
            if not select.select([self._process.stdout], [], [], left)[0]:
                return None
            if not (data := os.read(self._process.stdout.fileno(), 65536)):
                return None
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line.decode(errors="replace")

    def status(self, seconds: float = 0.0) -> int | None:
        """Exit status, negative for a signal, or None when it still runs after that time."""
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None

    def last_words(self, lines: int = 15) -> str:
        """The last lines of its log, or a note that there are none."""
        text = self.log.read_text(errors="replace").strip()
        return "\n".join(text.splitlines()[-lines:]) or "it logged nothing"

    def stop(self) -> None:
        """SIGKILL to its whole group; returns when it is gone. A second call does nothing."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
