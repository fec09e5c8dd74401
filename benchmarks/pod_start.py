"""Times a pod from its creation to Ready, as a watch sees it, one pod at a time, on the running cluster.

    gpulab up && python benchmarks/pod_start.py [--runs 20]

One container, no probe, image busybox. Creation is the moment before the request is sent; Ready is the moment at which
the watch delivers the condition. The goal on 2 cores is a median of at most 400 ms.
"""

import argparse
import os
import statistics
import time

import kubernetes

from clusters import backends

POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"generateName": "pod-start-"},
    "spec": {
        "terminationGracePeriodSeconds": 0,
        "containers": [{"name": "main", "image": "busybox", "command": ["sleep", "600"]}],
    },
}


def measure(core: kubernetes.client.CoreV1Api) -> float:
    """Seconds from creation to Ready of one pod, which is deleted afterwards."""
    since = core.list_namespaced_pod("default").metadata.resource_version
    events = kubernetes.watch.Watch().stream(
        core.list_namespaced_pod, "default", resource_version=since, timeout_seconds=60
    )
    begun = time.monotonic()
    name = core.create_namespaced_pod("default", POD).metadata.name
    try:
        for event in events:
            pod = event["object"]
            conditions = {each.type: each.status for each in pod.status.conditions or []}
            if pod.metadata.name == name and conditions.get("Ready") == "True":
                return time.monotonic() - begun
    finally:
        core.delete_namespaced_pod(name, "default", grace_period_seconds=0)
    raise SystemExit(f"the pod {name} was not Ready within 60 s")


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=20)
    options = parser.parse_args()
    cluster = backends.find("embedded", backends.DEFAULT_NAME, os.environ)
    if cluster is None:
        raise SystemExit("no cluster runs; start one with `gpulab up`")
    kubernetes.config.load_kube_config(str(cluster.kubeconfig))
    core = kubernetes.client.CoreV1Api()
    seconds = sorted(measure(core) for _ in range(options.runs))
    print(
        f"pod created to Ready, {len(seconds)} pods: median {statistics.median(seconds) * 1000:.0f} ms (goal 400), "
        f"fastest {seconds[0] * 1000:.0f}, slowest {seconds[-1] * 1000:.0f}"
    )


if __name__ == "__main__":
    main()
