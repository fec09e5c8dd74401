"""Drains a node with the cluster's own kubectl, which respects PodDisruptionBudgets.

Place: backends offer it as `drain`. Limits: pods of DaemonSets stay, emptyDir volumes are lost, as on a machine that
goes; pods that nobody would make again are not evicted, and said.
"""

import re

from clusters.api import Cluster, ClusterError, Progress, SpecError
from clusters.process import CommandFailed, stream

_HELD = re.compile(r'error when evicting pods/"([^"]+)" -n "([^"]+)" .*disruption budget')
_EVICTED = re.compile(r"evicting pod (\S+)|(pod/\S+ evicted)")


def drain(cluster: Cluster, node: str, *, seconds: float, progress: Progress) -> None:
    """Cordons `node` and evicts its pods; returns when they are gone.

    Args:
        cluster: the node's.
        node: its name.
        seconds: how long at most.
        progress: told each pod that is evicted or held back.

    Raises:
        SpecError: there is no such node, or `seconds` is no time.
        ClusterError: pods are left; says which, and which of them a PodDisruptionBudget holds.
    """
    if seconds <= 0:
        raise SpecError(f"asked to drain the node {node!r} within {seconds:g} s; give it more than 0")
    held: dict[str, None] = {}

    def tell(line: str) -> None:
        if found := _HELD.search(line):
            held[f"{found[2]}/{found[1]}"] = None
            progress(f"waiting for the budget that holds {found[2]}/{found[1]}")
        elif _EVICTED.search(line):
            progress(line)

    argv = [str(cluster.programs / "kubectl"), f"--kubeconfig={cluster.kubeconfig}", "drain", node]
    argv += ["--ignore-daemonsets", "--delete-emptydir-data", f"--timeout={seconds:g}s"]
    try:
        stream(argv, tell)
    except CommandFailed as error:
        raise _failed(node, seconds, list(held), error.output) from error


def _failed(node: str, seconds: float, held: list[str], output: str) -> ClusterError:
    if "(NotFound): nodes" in output:
        return SpecError(f"asked to drain the node {node!r}, which is not there; `gpulab kubectl get nodes` lists them")
    if held:
        return ClusterError(
            f"asked to drain the node {node!r} within {seconds:g} s, but a PodDisruptionBudget holds back the eviction "
            f"of {', '.join(held)}; the node stays cordoned; let more replicas run elsewhere, change the budget, or "
            "give it longer"
        )
    return ClusterError(
        f"asked to drain the node {node!r} within {seconds:g} s, but kubectl could not: {output.strip()}"
    )
