"""Chart values of a submission: what it may set, what the lab sets, and what its values use. Pure.

Place: `bench` installs what `chart_values` joins, the first check judges it. Limits: a submission sets what `FREE`
names; everything else is the lab's, so that all pods run the same image with the same data service.
"""

from collections.abc import Callable, Mapping
from typing import Any

from graders.allowance import layered, most, number
from graders.budget import Used, memory

GPU = "nvidia.com/gpu"
IMAGE = {"repository": "pytorch/pytorch", "tag": "2.13.0-cuda13.0-cudnn9-runtime", "pullPolicy": "IfNotPresent"}

FIXED: Mapping[str, Any] = {
    "image": IMAGE,
    "files": {},
    "env": {},
    "nodeSelector": {},
    "tolerations": [{"key": GPU, "operator": "Exists", "effect": "NoSchedule"}],
    # A small machine has room for three trainings only where none asks for much; without requests they would be limits.
    "resources": {"requests": {"cpu": "100m", "memory": "256Mi"}, "limits": {GPU: 1}},
    "torchrun": {"nprocPerNode": 1},
    "checkpoints": {"size": "1Gi", "shared": False},
}
FREE = (
    ("workers",),
    ("threads",),
    ("torchrun", "nnodes"),
    ("torchrun", "rdzvBackend"),
    ("torchrun", "rdzvEndpoint"),
    ("torchrun", "rdzvConf"),
    ("torchrun", "maxRestarts"),
    ("torchrun", "monitorInterval"),
    ("restart",),
    ("termination",),
    ("tolerateLossSeconds",),
    ("resources", "limits", "cpu"),
    ("resources", "limits", "memory"),
)


def chart_values(
    defaults: Mapping[str, Any], own: Mapping[str, Any], threshold: Callable[[str], float]
) -> dict[str, Any]:
    """All values of a submission's release, but for its files.

    Args:
        defaults: the chart's own.
        own: the submission's.
        threshold: the lab's numbers; who sets no limit of memory gets all that is given.
    """
    limits = {"memory": f"{threshold('budget_memory_gib'):g}Gi"}
    return layered(defaults, {"resources": {"limits": limits}}, own, FIXED)


def uses(own: Mapping[str, Any], joined: Mapping[str, Any]) -> tuple[Used, ...]:
    """How much of each thing that costs something a submission asks for; raises SubmissionError for no numbers."""
    return (
        Used("workers", number(joined, "workers"), "world_size", least=1),
        Used("threads of a worker", number(joined, "threads"), "budget_threads"),
        memory(own, joined, "budget_memory_gib"),
        Used("cores a pod", most(joined, "cpu"), "budget_cores"),
    )
