"""Chart values of both sides: what a submission may set, what the lab sets, and what values use. Pure.

Place: `bench` installs what `chart_values` joins, the first check judges it. Limits: a submission sets what `FREE`
names; everything else is the lab's, so that both sides serve the same model from the same image.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

from graders.allowance import Use, layered, quantity, surge
from graders.errors import SubmissionError

MODEL = "gpulab-tiny"
PORT = 8000
GPU = "nvidia.com/gpu"

FIXED: Mapping[str, Any] = {
    "image": {"repository": "vllm/vllm-openai", "tag": "v0.32.0", "pullPolicy": "IfNotPresent"},
    "model": {"name": f"/models/{MODEL}", "servedName": MODEL, "hostPath": ""},
    "engine": {"dtype": "auto", "tensorParallelSize": None, "extraArgs": []},
    "env": {},
    "service": {"type": "ClusterIP", "port": PORT},
    "sharedMemory": "",
    "resources": {"limits": {GPU: 1}},
    "nodeSelector": {},
    "tolerations": [{"key": GPU, "operator": "Exists", "effect": "NoSchedule"}],
}
FREE = (
    ("replicaCount",),
    ("engine", "maxNumSeqs"),
    ("engine", "maxNumBatchedTokens"),
    ("engine", "maxModelLen"),
    ("engine", "enablePrefixCaching"),
    ("engine", "enableChunkedPrefill"),
    ("engine", "enforceEager"),
    ("engine", "gpuMemoryUtilization"),
    ("engine", "kvCacheMemoryBytes"),
    ("cpu", "threads"),
    ("resources", "requests", "cpu"),
    ("resources", "requests", "memory"),
    ("resources", "limits", "cpu"),
    ("resources", "limits", "memory"),
    ("histogramBuckets",),
    ("service", "name"),
    ("serviceLinks",),
    ("probes",),
    ("termination",),
    ("rollout",),
)
MEBI, GIBI = 2.0**20, 2.0**30


def chart_values(
    defaults: Mapping[str, Any], level: Mapping[str, Any], own: Mapping[str, Any], threshold: Callable[[str], float]
) -> dict[str, Any]:
    """All values of one side.

    Args:
        defaults: the chart's own.
        level: what all servers at this level have, as in values-cpu.yaml.
        own: the submission's or the starter's.
        threshold: the lab's numbers; who sets no memory limit gets all that is given.
    """
    memory = {"resources": {"limits": {"memory": f"{threshold('budget_memory_gib'):g}Gi"}}}
    return layered(defaults, level, memory, own, FIXED)


def uses(values: Mapping[str, Any], threshold: Callable[[str], float]) -> list[Use]:
    """How much of each thing that costs something these values ask for; raises SubmissionError for no numbers."""
    replicas = _number(values, "replicaCount")
    pods = replicas + surge(round(replicas), _at(values, "rollout", "maxSurge"), "rollout.maxSurge")
    found = [
        Use("replicas", replicas, threshold("budget_replicas")),
        Use("pods during an upgrade", pods, threshold("budget_pods")),
        Use("threads of the engine", _number(values, "cpu", "threads"), threshold("budget_threads")),
        Use("GiB of memory a pod", _most(values, "memory") / GIBI, threshold("budget_memory_gib")),
        Use("cores a pod", _most(values, "cpu"), threshold("budget_cores")),
    ]
    if _at(values, "cpu", "enabled"):
        # Without it vLLM takes most of the machine's memory; on a GPU it takes a share of the GPU's.
        bytes_asked = _at(values, "engine", "kvCacheMemoryBytes")
        cache = math.inf if bytes_asked is None else _number(values, "engine", "kvCacheMemoryBytes") / MEBI
        found.append(Use("MiB of KV cache", cache, threshold("budget_kv_mib")))
    else:
        share = 0.9 if _at(values, "engine", "gpuMemoryUtilization") is None else None
        used = share or _number(values, "engine", "gpuMemoryUtilization")
        found.append(Use("of a GPU's memory", used, threshold("budget_gpu_memory")))
    return found


def _most(values: Mapping[str, Any], resource: str) -> float:
    """The larger one of request and limit; 0 where there is neither."""
    asked = {
        f"resources.{kind}.{resource}": _at(values, "resources", kind, resource) for kind in ("requests", "limits")
    }
    return max((quantity(value, what) for what, value in asked.items() if value is not None), default=0.0)


def _number(values: Mapping[str, Any], *path: str) -> float:
    found = _at(values, *path)
    if isinstance(found, bool) or not isinstance(found, int | float):
        raise SubmissionError(f"{'.'.join(path)} is {found!r}, where a number belongs; correct it")
    return float(found)


def _at(values: Mapping[str, Any], *path: str) -> object:
    found: object = values
    for key in path:
        found = found.get(key) if isinstance(found, Mapping) else None
    return found
