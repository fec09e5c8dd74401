"""Shows a person what is being waited for.

Place: `commands` and `conftest.py` make one `Display` and hand it down as `clusters.api.Progress`. Limits: one line at
a time; where the output is no terminal, a line when the phase changes and otherwise one every few seconds.
"""

import time
from collections.abc import Callable
from types import TracebackType
from typing import Self, TextIO

from rich.console import Console
from rich.progress import Progress as Bar
from rich.progress import SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

_PAUSE = 5.0  # seconds between two lines of one phase in a log


class Display:
    """Callable with one line of text; a context manager that takes the last line away at its end."""

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = Console(file=stream, highlight=False)
        self._clock = clock
        self._begun = clock()
        self._phase, self._printed = "", 0.0
        self._timeline: list[tuple[float, str]] = []
        self._new = True
        self._bar: Bar | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.clear()

    def __call__(self, text: str) -> None:
        """Shows `text` as what is being waited for; text up to a colon names the phase."""
        self._enter(text.partition(":")[0])
        if self._console.is_terminal:
            self._draw(text)
        else:
            self._log(text)

    def timeline(self) -> list[tuple[float, float, str]]:
        """Each phase in its order: the second at which it began, how many it took, its name.

        A phase lasts until the next one begins, the last one until now.
        """
        ends = [begun for begun, _ in self._timeline[1:]] + [self._clock() - self._begun]
        return [(begun, end - begun, phase) for (begun, phase), end in zip(self._timeline, ends, strict=False)]

    def spent(self) -> dict[str, float]:
        """Seconds in each phase so far, longest first."""
        spent: dict[str, float] = {}
        for _, seconds, phase in self.timeline():
            spent[phase] = spent.get(phase, 0.0) + seconds
        return dict(sorted(spent.items(), key=lambda item: -item[1]))

    def clear(self) -> None:
        """Takes the line away, so that others may write."""
        if self._bar:
            self._bar.stop()
            self._bar = self._task = None

    def _draw(self, text: str) -> None:
        if self._bar is None:
            columns = SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn()
            self._bar = Bar(*columns, console=self._console, transient=True)
            self._bar.start()
        if self._task is not None and not self._new:
            self._bar.update(self._task, description=text)
        else:
            if self._task is not None:
                self._bar.remove_task(self._task)
            self._task = self._bar.add_task(text)

    def _enter(self, phase: str) -> None:
        self._new = phase != self._phase
        if self._new:
            self._phase = phase
            self._timeline.append((self._clock() - self._begun, phase))

    def _log(self, text: str) -> None:
        now = self._clock()
        if self._new or now - self._printed >= _PAUSE:
            self._printed = now
            self._console.print(f"[{now - self._begun:5.1f} s] {text}", markup=False, soft_wrap=True)
