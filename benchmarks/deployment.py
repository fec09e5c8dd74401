"""Times a Deployment's pods from creation to all Ready, and from deletion to none left, on a cluster of its own.

    python benchmarks/deployment.py [--nodes 5] [--pods 50 400]

One container, no probe, image busybox. A watch on the pods tells when each is Ready, and when each is gone (after
SIGTERM, which ends it). Goals on 2 cores and five nodes: 50 pods within 4 s, 400 within 25 s, deleted in as much again.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import kubernetes

from clusters import backends
from clusters.api import ClusterSpec, NodeSpec
from clusters.embedded.controlplane import is_ready
from clusters.progress import Display

GOALS = {50: 4.0, 400: 25.0}
NAME = "deployment-benchmark"


def deployment(pods: int) -> dict[str, Any]:
    """The object."""
    container = {"name": "main", "image": "busybox", "command": ["sleep", "3600"]}
    spec = {"containers": [container]}
    labels = {"app": NAME}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": NAME},
        "spec": {
            "replicas": pods,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": spec},
        },
    }


def pods_seen(core: kubernetes.client.CoreV1Api) -> Iterator[dict[str, bool]]:
    """After each event: which pods there are, and whether each is Ready; begins with what there is.

    The API server sends a watcher away that falls behind, which then lists again, as informers do.
    """
    while True:
        start = json.loads(core.list_namespaced_pod("default", _preload_content=False).data)
        ready = {pod["metadata"]["name"]: is_ready(pod) for pod in start["items"]}
        yield ready
        since = start["metadata"]["resourceVersion"]
        for line in core.list_namespaced_pod("default", watch=True, resource_version=since, _preload_content=False):
            event = json.loads(line)
            name = event["object"]["metadata"]["name"]
            if event["type"] == "DELETED":
                ready.pop(name, None)
            else:
                ready[name] = is_ready(event["object"])
            yield ready


def timed(
    core: kubernetes.client.CoreV1Api, act: Callable[[], object], done: Callable[[dict[str, bool]], bool]
) -> float:
    """Seconds from the start of `act` until the pods are as wanted."""
    seen = pods_seen(core)
    next(seen)
    begun = time.monotonic()
    act()
    for ready in seen:
        if done(ready):
            return time.monotonic() - begun
        if time.monotonic() > begun + 300:
            break
    raise SystemExit("the pods were not as wanted within 300 s")


def measure(pods: int) -> tuple[float, float]:
    """Seconds to create and to delete."""
    core, apps = kubernetes.client.CoreV1Api(), kubernetes.client.AppsV1Api()
    made = timed(
        core,
        lambda: apps.create_namespaced_deployment("default", deployment(pods)),
        lambda ready: sum(ready.values()) == pods,
    )
    gone = timed(core, lambda: apps.delete_namespaced_deployment(NAME, "default"), lambda ready: not ready)
    return made, gone


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nodes", type=int, default=5)
    parser.add_argument("--pods", type=int, nargs="+", default=[50, 400])
    options = parser.parse_args()
    spec = ClusterSpec(nodes=tuple(NodeSpec(f"node-{index}") for index in range(1, options.nodes + 1)))
    with Display(sys.stderr) as display:
        cluster = backends.launch("embedded", NAME, spec, (), env=os.environ, progress=display)
    try:
        kubernetes.config.load_kube_config(str(cluster.kubeconfig))
        measure(options.nodes)  # what is only ever slow once
        for pods in options.pods:
            made, gone = measure(pods)
            goal = f" (goal {GOALS[pods]:g} s each)" if pods in GOALS else ""
            print(
                f"{pods} pods on {options.nodes} nodes: all Ready after {made:.2f} s, all gone after {gone:.2f} s{goal}"
            )
    finally:
        cluster.stop()


if __name__ == "__main__":
    main()
