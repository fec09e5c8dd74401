"""Chart values of both sides: what a submission may set, what the lab sets, and what values use. Pure.

Place: `bench` installs what `chart_values` joins, the first check judges it. Limits: a submission sets what `FREE`
names; everything else is the lab's, so that both sides serve the same model from the same image.
"""

from collections.abc import Callable, Mapping
from typing import Any

from graders.allowance import layered, quantity, surge
from graders.errors import SubmissionError
from vllm_lab.start_facts import Used

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


def uses(own: Mapping[str, Any], joined: Mapping[str, Any]) -> tuple[Used, ...]:
    """How much of each thing that costs something a submission asks for; raises SubmissionError for no numbers.

    Args:
        own: its values.
        joined: all values of its side.
    """
    replicas = _number(joined, "replicaCount")
    pods = replicas + surge(round(replicas), _at(joined, "rollout", "maxSurge"), "rollout.maxSurge")
    limited = _says(own, "resources", "limits", "memory")
    # Null takes the limit away that who says nothing gets.
    endless = limited and _at(joined, "resources", "limits", "memory") is None
    memory = None if endless else _most(joined if limited else own, "memory") / GIBI
    found = [
        Used("replicas", replicas, "budget_replicas"),
        Used("pods during an upgrade", pods, "budget_pods"),
        Used("threads of the engine", _number(joined, "cpu", "threads"), "budget_threads"),
        Used("GiB of memory a pod", memory, "budget_memory_gib", not limited),
        Used("cores a pod", _most(joined, "cpu"), "budget_cores"),
    ]
    if _at(joined, "cpu", "enabled"):
        # Without it vLLM takes most of the machine's memory; on a GPU it takes a share of the GPU's.
        asked = _at(joined, "engine", "kvCacheMemoryBytes")
        cache = None if asked is None else _number(joined, "engine", "kvCacheMemoryBytes") / MEBI
        found.append(Used("MiB of KV cache", cache, "budget_kv_mib"))
    else:
        share = 0.9 if _at(joined, "engine", "gpuMemoryUtilization") is None else None
        used = share or _number(joined, "engine", "gpuMemoryUtilization")
        found.append(Used("of a GPU's memory", used, "budget_gpu_memory"))
    return tuple(found)


def _most(values: Mapping[str, Any], resource: str) -> float:
    """The larger one of request and limit; 0 where there is neither."""
    asked = {
        f"resources.{kind}.{resource}": _at(values, "resources", kind, resource) for kind in ("requests", "limits")
    }
    return max((quantity(value, what) for what, value in asked.items() if value is not None), default=0.0)


def _says(values: Mapping[str, Any], *path: str) -> bool:
    """Whether values say something there, be it that there is nothing."""
    found: object = values
    for key in path:
        if not isinstance(found, Mapping):
            return True
        if key not in found:
            return False
        found = found[key]
    return True


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
