"""What real GPUs made of a submission's training, and how that is judged: speed, use, and the link between them. Pure.

Place: `gpus` measures these facts, `scaling_facts` judges them with the turns. Limits: one GPU a rank. Not yet run on a
GPU: lab.toml does not offer L3 before it was.
"""

from itertools import pairwise

import msgspec

from ddp_lab.runs import JobSpec
from graders.gpu_scrape import Activity
from graders.judging import Thresholds


class GpuTraining(msgspec.Struct, frozen=True, kw_only=True):
    """A training that nobody held back, and an all-reduce alone.

    Attributes:
        samples_per_second: of all ranks together; a sample is what this model reads at once, as others read a token.
        flops_per_sample: as `flops_per_sample` counts them.
        ranks: that trained.
        activity: of their GPUs meanwhile.
        all_reduce_bytes: of one buffer that all ranks add up.
        all_reduce_seconds: median of the times that this takes.
        error: how far the weights moved otherwise in a step that was drawn than those of one process on the same
            samples, in times of how far they moved; None where ranks disagree or did not read each sample once.
    """

    samples_per_second: float
    flops_per_sample: float
    ranks: int
    activity: Activity
    all_reduce_bytes: int
    all_reduce_seconds: float
    error: float | None

    @property
    def flops_per_second(self) -> float:
        """Of one GPU."""
        return self.samples_per_second * self.flops_per_sample / self.ranks

    @property
    def bus_bytes_per_second(self) -> float:
        """What the link gave."""
        return bus_bytes_per_second(self.all_reduce_bytes, self.all_reduce_seconds, self.ranks)

    def words(self, threshold: Thresholds) -> str:
        """The figures, for a sentence."""
        tensor, sm = self.activity.tensor, self.activity.sm
        units = [f"{name} {share:.0%}" for name, share in (("tensor cores", tensor), ("SMs", sm)) if share is not None]
        active = f", {' and '.join(units)} of the time" if units else ""
        return (
            f"{self.samples_per_second:.0f} samples/s, {self._mfu(threshold):.0%} of a GPU's peak; GPUs "
            f"{self.activity.utilisation:.0f} % busy{active}; an all-reduce alone at "
            f"{self.bus_bytes_per_second / 1e9:.2f} GB/s, {link_share(self.bus_bytes_per_second, threshold):.0%} of "
            "the link"
        )

    def worked(self, threshold: Thresholds) -> bool:
        """Whether the drawn step was computed."""
        return self.error is not None and self.error <= threshold("scaling_error")

    def shortfalls(self, threshold: Thresholds) -> list[str]:
        """What is out of its bounds, a sentence each; more than the device can do is a false figure.

        The link is the lab's, so `gpus` refuses one that is out of its bounds, and nobody is judged by it.
        """
        said = []
        if self.error is None:
            said.append("in a step that was drawn not each sample was read once, or ranks hold different weights")
        elif not self.worked(threshold):
            said.append(f"weights are off by {self.error:.2g} of their change in a step, so the work was not done")
        if self.activity.utilisation < threshold("gpu_utilisation"):
            goal = threshold("gpu_utilisation")
            said.append(f"they were {self.activity.utilisation:.0f} % busy, where {goal:g} % are the goal")
        found, goal = self._mfu(threshold), threshold("gpu_mfu")
        if not goal <= found <= 1.0:
            said.append(f"model FLOPs utilisation was {found:.0%}, where {goal:.0%} to 100 % can be")
        return said

    def _mfu(self, threshold: Thresholds) -> float:
        return self.flops_per_second / (threshold("gpu_peak_tflops") * 1e12)


def bus_bytes_per_second(size: int, seconds: float, ranks: int) -> float:
    """The link's part of an all-reduce: size / time x 2(n-1)/n (nccl-tests, doc/PERFORMANCE.md, busbw)."""
    return size / seconds * 2 * (ranks - 1) / ranks


def link_share(bytes_per_second: float, threshold: Thresholds) -> float:
    """Of what the link between two nodes gives."""
    return bytes_per_second / (threshold("gpu_link_gbs") * 1e9)


def flops_per_sample(job: JobSpec) -> float:
    """Floating-point operations that training on one sample needs: 2 a weight forward, 4 backward but for the input's.

    That is 6 a parameter, as torchtitan counts for its models (torchtitan/models/utils.py), less the gradient of the
    first layer's input, which nobody needs; biases, tanh and the update are left out.
    """
    weights = [before * after for before, after in pairwise(job.sizes)]
    return 6.0 * sum(weights) - 2.0 * weights[0]
