"""What real GPUs did while something was measured: the exporters of their nodes, asked twice a second meanwhile.

Place: labs ask for it where a cluster's GPUs are real; `gpu_recorder` looks at all GPUs for the whole run, more seldom.
Limits: DCGM's exporter, or one that takes its place, on port 9400 of each node; one GPU a pod.
"""

import contextlib
import statistics
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import msgspec

from graders.gpu_telemetry import MEMORY, UTILISATION
from graders.metrics import Metrics
from graders.sampler import Place, Scrape
from graders.scrape import Scraper, Scrapes

TENSOR = "DCGM_FI_PROF_PIPE_TENSOR_ACTIVE"
SM = "DCGM_FI_PROF_SM_ACTIVE"
BRIEF = (UTILISATION, MEMORY, TENSOR, SM)
EXPORTER_PORT = 9400
EVERY_SECONDS = 0.5
AGE_SECONDS = 30.0
"""So old a figure may be: dcgm-exporter takes new ones every 30 s unless told otherwise (pkg/cmd/app.go, -c)."""


class Activity(msgspec.Struct, frozen=True, kw_only=True):
    """Of the GPUs of some pods: mean utilisation in percent, the most memory in use by one, mean activity.

    `tensor` and `sm` are the shares of time in which tensor cores and multiprocessors were active (DCGM's profiling
    metrics); None where the exporter does not tell them, as on devices without profiling.
    """

    utilisation: float
    used_gib: float
    tensor: float | None
    sm: float | None


@contextlib.contextmanager
def watched(
    hosts: Iterable[str], *, enter: Callable[[Sequence[str]], list[str]], folder: Path, seed: int
) -> Iterator[list[Scrape]]:
    """What the exporters on these nodes tell meanwhile; the list is filled at the end.

    Args:
        hosts: IP addresses of the nodes, as pods have them in `status.hostIP`.
        enter: turns an argument list into one that runs where nodes answer.
        folder: for files in passing.
        seed: what the moments are drawn from.

    Raises:
        InfrastructureError: nobody can ask from there.
    """
    found: list[Scrape] = []
    places = {host: Place(host=host, port=EXPORTER_PORT) for host in hosts}
    with Scraper(places, enter=enter, folder=folder, brief=BRIEF, seed=seed) as scraper:
        with scraper.during(every=EVERY_SECONDS):
            yield found
        found += scraper.scrapes()


def encoded(scrapes: Sequence[Scrape]) -> bytes:
    """What exporters told, as `graders.scrape` keeps it."""
    return Scrapes.of(scrapes, before=scrapes[0].round, after=scrapes[-1].round).encode()


def activity(scrapes: Iterable[Scrape], windows: Sequence[tuple[float, float]], pods: Iterable[str]) -> Activity | None:
    """What the GPUs of these pods did in these windows of monotonic seconds; None where nobody told it.

    What is told in a window may be of AGE_SECONDS before it.

    Args:
        scrapes: of the exporters on the pods' nodes.
        windows: from when to when.
        pods: by name, which the exporter gives as the label `pod`.
    """
    inside = [each for each in scrapes if any(start <= each.asked < end for start, end in windows)]
    told = [Metrics.parse(each.text) for each in inside if each.failure is None]
    wanted = list(pods)

    def values(name: str) -> list[float]:
        return [value for page in told for pod in wanted if (value := page.total(name, pod=pod)) is not None]

    busy, held = values(UTILISATION), values(MEMORY)
    if not busy or not held:
        return None
    return Activity(
        utilisation=statistics.fmean(busy),
        used_gib=max(held) / 1024,
        tensor=_mean(values(TENSOR)),
        sm=_mean(values(SM)),
    )


def _mean(values: Sequence[float]) -> float | None:
    return statistics.fmean(values) if values else None
