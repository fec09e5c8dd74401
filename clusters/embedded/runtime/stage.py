"""The mounts among which containers are put together: those of the machine, and nothing of other pods.

Place: a runtime has one; `container.py` shows it what a container mounts, and starts bubblewrap in it. For each mount
that it makes, bubblewrap reads the list of all, which on a node grows with every pod: with 80 of them that took a third
of a container's start. Limits: Linux 5.2 (open_tree); what the node mounts later is here only when it is shown.
"""

import asyncio
import contextlib
import itertools
import os
import stat
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TypeVar

from clusters.embedded.runtime import mounts

T = TypeVar("T")

_SIZE = 1 << 20  # bytes of a tmpfs with nothing but empty files and folders


class Stage:
    """A mount namespace that a thread of this process has to itself, as long as the process lives."""

    def __init__(self, folder: Path) -> None:
        """Begins it with the mounts of now; `folder`, which exists, is where it shows things.

        Raises:
            OSError: the kernel refused, as it does without CAP_SYS_ADMIN.
        """
        self._folder, self._names = folder, itertools.count()
        self._thread = ThreadPoolExecutor(1, "stage")
        self._descriptor = self._thread.submit(self._begin).result()

    @property
    def entering(self) -> str:
        """The option for nsenter that starts a program on it."""
        return f"--mount=/proc/{os.getpid()}/fd/{self._descriptor}"

    async def do(self, act: Callable[..., T], *arguments: object) -> T:
        """What `act` returns or raises there; it may mount and unmount."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, partial(act, *arguments))

    @contextlib.asynccontextmanager
    async def showing(self, sources: Iterable[str]) -> AsyncIterator[Mapping[str, str]]:
        """Files and folders of the node, with all that is mounted in them: the path of each on the stage.

        One that is not there is not shown.

        Raises:
            OSError: the kernel refused.
        """
        copies = dict[str, int]()
        place = self._folder / str(next(self._names))
        try:
            for source in dict.fromkeys(sources):
                with contextlib.suppress(FileNotFoundError):
                    copies[source] = mounts.copy(Path(source))
            yield await self.do(_show, place, copies)
        finally:
            for copied in copies.values():
                os.close(copied)
            await self.do(_clear, place)

    def _begin(self) -> int:
        mounts.apart()
        mounts.tmpfs(self._folder, _SIZE)
        return os.open("/proc/thread-self/ns/mnt", os.O_RDONLY)


def _show(place: Path, copies: Mapping[str, int]) -> Mapping[str, str]:
    place.mkdir()
    mounts.tmpfs(place, _SIZE)
    shown = {}
    for number, (source, copied) in enumerate(copies.items()):
        target = place / str(number)
        if stat.S_ISDIR(os.fstat(copied).st_mode):
            target.mkdir()
        else:
            target.touch()
        mounts.move(copied, target)
        shown[source] = str(target)
    return shown


def _clear(place: Path) -> None:
    mounts.remove(place)
    with contextlib.suppress(FileNotFoundError):
        place.rmdir()
