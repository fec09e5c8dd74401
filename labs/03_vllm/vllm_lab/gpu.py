"""What a real GPU did while it served: utilisation, memory, and how much of its memory's bandwidth decoding used.

Place: the throughput check asks for it at L3. Limits: one GPU a replica; figures of DCGM's exporter, or of one
that takes its place on the node. Not yet run on a GPU: lab.toml does not offer L3 before it was.
"""

import statistics
from collections.abc import Callable, Iterable, Sequence

import msgspec

from graders.gpu_scrape import activity
from graders.sampler import Scrape
from graders.samples import Run


class GpuUse(msgspec.Struct, frozen=True, kw_only=True):
    """Of the GPU of one pod under load.

    `utilisation` is its mean in percent, `used_gib` the most memory in use, `bandwidth` the share of the memory's that
    reading the weights once a token takes: weights / (bandwidth × median TPOT), at most 1 on a real device.
    """

    utilisation: float
    used_gib: float
    bandwidth: float

    def words(self) -> str:
        """The figures, for a sentence."""
        return (
            f"the GPU was {self.utilisation:.0f} % busy, held {self.used_gib:.1f} GiB and spent {self.bandwidth:.0%} "
            "of its bandwidth on weights"
        )

    def shortfalls(self, threshold: Callable[[str], float]) -> list[str]:
        """What is out of its bounds, a sentence each."""
        said = []
        if self.utilisation < threshold("gpu_utilisation"):
            said.append(f"it was {self.utilisation:.0f} % busy, where {threshold('gpu_utilisation'):g} % are the goal")
        if self.used_gib > threshold("gpu_memory_gib"):
            said.append(f"it held {self.used_gib:.1f} GiB, where {threshold('gpu_memory_gib'):g} are given")
        if not threshold("gpu_bandwidth_share") <= self.bandwidth <= 1.0:
            said.append(
                f"decoding read weights at {self.bandwidth:.0%} of the bandwidth, where "
                f"{threshold('gpu_bandwidth_share'):.0%} to 100 % can be"
            )
        return said


class GpuSeen(msgspec.Struct, frozen=True, kw_only=True):
    """What was seen of it: its mean utilisation in percent, the most memory in use, and the median TPOT in seconds."""

    utilisation: float
    used_gib: float
    tpot: float

    def use(self, threshold: Callable[[str], float]) -> GpuUse:
        """What that comes to on a GPU of this bandwidth, with a model of these weights."""
        share = threshold("gpu_weights_gb") / (threshold("gpu_bandwidth_gbs") * self.tpot)
        return GpuUse(utilisation=self.utilisation, used_gib=self.used_gib, bandwidth=share)


def gpu_seen(scrapes: Iterable[Scrape], runs: Sequence[Run], pod: str) -> GpuSeen | None:
    """A pod's GPU in the windows of these runs; None where the exporter told nothing of it then.

    Args:
        scrapes: of the exporter on the pod's node, from before the first run until after the last.
        runs: loads on that pod.
        pod: its name, which the exporter gives as the label `pod`.
    """
    windows = [(run.t0 + run.plan.ramp, run.t0 + run.plan.window_end) for run in runs]
    seen = activity(scrapes, windows, [pod])
    paces = [pace for run in runs for pace in run.tpot()]
    if seen is None or not paces:
        return None
    return GpuSeen(utilisation=seen.utilisation, used_gib=seen.used_gib, tpot=statistics.median(paces))
