"""Chart values of both sides: what a submission may set, what the lab sets, and what values use. Pure.

Place: `bench` installs what `chart_values` joins, the first check judges it. Limits: a submission sets what `FREE`
names; everything else is the lab's, so that both sides serve the same model from the same image.
"""

from collections.abc import Callable, Mapping
from typing import Any

from graders.allowance import at, layered, most, number, surge
from graders.budget import Used, memory

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
MEBI = 2.0**20


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
    replicas = number(joined, "replicaCount")
    pods = replicas + surge(round(replicas), at(joined, "rollout", "maxSurge"), "rollout.maxSurge")
    found = [
        Used("replicas", replicas, "budget_replicas", least=1),
        Used("pods during an upgrade", pods, "budget_pods"),
        Used("threads of the engine", number(joined, "cpu", "threads"), "budget_threads"),
        memory(own, joined, "budget_memory_gib"),
        Used("cores a pod", most(joined, "cpu"), "budget_cores"),
    ]
    if at(joined, "cpu", "enabled"):
        # Without it vLLM takes most of the machine's memory; on a GPU it takes a share of the GPU's.
        asked = at(joined, "engine", "kvCacheMemoryBytes")
        cache = None if asked is None else number(joined, "engine", "kvCacheMemoryBytes") / MEBI
        found.append(Used("MiB of KV cache", cache, "budget_kv_mib"))
    else:
        share = 0.9 if at(joined, "engine", "gpuMemoryUtilization") is None else None
        used = share or number(joined, "engine", "gpuMemoryUtilization")
        found.append(Used("of a GPU's memory", used, "budget_gpu_memory"))
    return tuple(found)
