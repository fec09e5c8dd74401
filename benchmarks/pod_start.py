"""Times a pod from its creation to Ready, as a watch sees it, one pod at a time, on a cluster of one node of its own.

    python benchmarks/pod_start.py [--runs 20]

One container, no probe, image busybox. Creation is the moment before the request is sent; Ready is the moment at which
the watch delivers the condition; the next pod waits until this one is gone. The goal on 2 cores is a median of at most
300 ms. It is shown for a pod without volumes and for one with the usual token: for a pod with any volume the kubelet
looks every 300 ms whether all are mounted (podAttachAndMountRetryInterval), and no setting makes that shorter.
"""

import argparse
import os
import statistics
import sys
import time
from typing import Any

import kubernetes

from clusters import backends
from clusters.api import ClusterSpec, NodeSpec
from clusters.embedded.controlplane import is_ready
from clusters.progress import Display


def pod(*, token: bool) -> dict[str, Any]:
    """The object; `token`: with the volume that holds its service account's token."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"generateName": "pod-start-"},
        "spec": {
            "automountServiceAccountToken": token,
            "containers": [{"name": "main", "image": "busybox", "command": ["sleep", "600"]}],
        },
    }


def measure(core: kubernetes.client.CoreV1Api, *, token: bool) -> float:
    """Seconds from creation to Ready of one pod, which is gone afterwards."""
    since = core.list_namespaced_pod("default").metadata.resource_version
    events = kubernetes.watch.Watch().stream(
        core.list_namespaced_pod, "default", resource_version=since, timeout_seconds=60
    )
    seconds = None
    begun = time.monotonic()
    name = core.create_namespaced_pod("default", pod(token=token)).metadata.name
    for event in events:
        found = event["raw_object"]
        if found["metadata"]["name"] != name:
            continue
        if event["type"] == "DELETED" and seconds is not None:
            return seconds
        if seconds is None and is_ready(found):
            seconds = time.monotonic() - begun
            core.delete_namespaced_pod(name, "default")
    raise SystemExit(f"the pod {name} was not Ready and gone within 60 s")


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=20)
    options = parser.parse_args()
    spec = ClusterSpec(nodes=(NodeSpec("node"),))
    with Display(sys.stderr) as display:
        cluster = backends.launch("embedded", "pod-start", spec, (), env=os.environ, progress=display)
    try:
        kubernetes.config.load_kube_config(str(cluster.kubeconfig))
        core = kubernetes.client.CoreV1Api()
        for token, what in ((False, "without volumes"), (True, "with its token")):
            measure(core, token=token)  # what is only ever slow once
            seconds = sorted(measure(core, token=token) for _ in range(options.runs))
            median, fastest, slowest = (each * 1000 for each in (statistics.median(seconds), seconds[0], seconds[-1]))
            print(
                f"pod {what}, created to Ready, {len(seconds)} pods: median {median:.0f} ms (goal 300), "
                f"fastest {fastest:.0f}, slowest {slowest:.0f}"
            )
    finally:
        cluster.stop()


if __name__ == "__main__":
    main()
