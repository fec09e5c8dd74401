"""One node: a mount namespace of its own with a kubelet and the runtime that runs its containers.

Place: holder.py writes the files of a node (`describe`) and starts `python -m clusters.embedded.node` on them, in a new
mount namespace; there `main` puts the node's own folder on /var/lib/kubelet (the path of the device plugin socket is
fixed), serves the runtime in this process and keeps the kubelet beside it. When this process dies, so does all that
runs on the node. Limits: every node reports the whole machine's processors and memory as its own.
"""

import asyncio
import json
import logging
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from clusters.api import ClusterSpec, ControlPlane, NodeSpec
from clusters.embedded import cgroups, network
from clusters.embedded.cgroups import Limits
from clusters.embedded.controlplane import Files
from clusters.embedded.gpu import devices, faults
from clusters.embedded.pki import Pair
from clusters.embedded.private import write_private
from clusters.embedded.runtime import server
from clusters.embedded.runtime.config import NodeConfig
from clusters.embedded.state import ADDED_IMAGES, RESTARTS
from clusters.embedded.supervisor import SETTLED, Backoff, record
from clusters.process import Child, run, tail
from clusters.sockets import listens

CAPACITY_TYPE = "karpenter.sh/capacity-type"
"""The label that Karpenter and most charts use for spot and on-demand; design.md's term is capacity type."""

KUBELET = Path("/var/lib/kubelet")


class Job(msgspec.Struct, frozen=True):
    """What a node's process is told: the kubelet's command line and folder, and the file of restarts."""

    runtime: NodeConfig
    kubelet: tuple[str, ...]
    folder: str
    restarts: str


@dataclass(frozen=True)
class Paths:
    """Folders of one node in the cluster's state, and the socket of its runtime."""

    state: Path
    socket: Path

    @property
    def kubelet(self) -> Path:
        """What this node sees as /var/lib/kubelet."""
        return self.state / "kubelet"

    @property
    def logs(self) -> Path:
        """Container logs, as the kubelet lays them out."""
        return self.state / "pods"


def kubelet_times(times: ControlPlane) -> dict[str, Any]:
    """How often a kubelet gives a sign of life; a status without news is told each 5 min, as by default."""
    return {
        "nodeLeaseDurationSeconds": times.node_lease_duration_seconds,
        "nodeStatusUpdateFrequency": f"{times.node_status_update_seconds}s",
        "nodeStatusReportFrequency": "5m",
    }


def kubelet_config(address: str, paths: Paths, authority: Path, serving: Pair, spec: NodeSpec) -> dict[str, Any]:
    """Configuration of a kubelet that needs no cgroups, no swap settings and no host firewall."""
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": address,
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(authority)},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": str(serving.cert),
        "tlsPrivateKeyFile": str(serving.key),
        "containerRuntimeEndpoint": f"unix://{paths.socket}",
        "cgroupsPerQOS": False,
        "enforceNodeAllocatable": [],
        "failCgroupV1": False,
        "failSwapOn": False,
        "localStorageCapacityIsolation": True,
        "volumeStatsAggPeriod": "10s",  # how soon an emptyDir above its limit is noticed
        "makeIPTablesUtilChains": False,
        # With events from the runtime, the end of a container is seen at once and not at the next look of each second.
        "featureGates": {"EventedPLEG": True, "KubeletInUserNamespace": True, "PodAndContainerStatsFromCRI": True},
        "healthzPort": 0,
        "readOnlyPort": 0,
        "podLogsDir": str(paths.logs),
        "clusterDNS": [network.DNS_SERVICE],
        "clusterDomain": network.DOMAIN,
        "resolvConf": "",
        "seccompDefault": True,
        "serializeImagePulls": False,
        "registryPullQPS": 0,  # a pull is a look at a list; past the default of 5/s the kubelet would back off for 10 s
        # A developer's disk is often nearly full, and there are no images here whose removal would free anything.
        "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
        "imageGCHighThresholdPercent": 100,
        "registerWithTaints": [msgspec.to_builtins(taint) for taint in spec.taints],
    }


def labels(spec: NodeSpec, gpus: devices.Offer) -> dict[str, str]:
    """The labels a node joins with: its own, its capacity type, and those of its GPUs."""
    return {CAPACITY_TYPE: spec.capacity_type} | devices.node_labels(gpus) | spec.labels


def describe(
    spec: NodeSpec,
    index: int,
    files: Files,
    run_folder: Path,
    images: Path,
    cluster: ClusterSpec,
    gpus: devices.Offer,
    limits: Limits,
) -> Path:
    """Writes all that the node's process needs, and returns the file that names the rest.

    Args:
        spec: the node.
        index: its place among the cluster's nodes, from 1; decides its addresses.
        files: the cluster's files.
        run_folder: short path for sockets (their paths may have 107 bytes at most).
        images: the list of images.
        cluster: the cluster that it is a node of.
        gpus: what it offers of its GPUs.
        limits: how the cluster's containers are limited.
    """
    state = files.state / "nodes" / spec.name
    paths = Paths(state, run_folder / f"{spec.name}.sock")
    for folder in (state, paths.kubelet, paths.logs, state / "containers"):
        folder.mkdir(mode=0o700)
    address = network.node_address(index)
    client, serving = _credentials(files, spec.name, address)
    config = kubelet_config(address, paths, files.authority.cert, serving, spec) | kubelet_times(cluster.control_plane)
    config_file = write_private(state / "kubelet.json", json.dumps(config).encode())
    runtime = NodeConfig(
        name=spec.name,
        socket=str(paths.socket),
        pods=network.pod_network(index),
        logs=str(paths.logs),
        state=str(state / "containers"),
        descriptors=str(files.programs / "descriptors"),
        streaming=files.program("streaming"),
        images=str(images),
        added_images=str(files.state / ADDED_IMAGES),
        host_paths=cluster.host_paths,
        launch=files.program("launch"),
        proc=str(run_folder / "proc"),
        sys=str(run_folder / "sys"),
        shm=str(run_folder / f"{spec.name}.shm"),
        kubelet=str(KUBELET),
        gpus=gpus,
        address=address,
        faults=str(faults.file(files.state, spec.name)),
        limits=cgroups.below(limits, spec.name),
    )
    kubelet = [
        files.program("kubelet"),
        *(f"--config={config_file}", f"--kubeconfig={client}", f"--cert-dir={state}", f"--root-dir={KUBELET}"),
        *(f"--hostname-override={spec.name}", f"--node-ip={address}"),
        "--node-labels=" + ",".join(f"{key}={value}" for key, value in sorted(labels(spec, gpus).items())),
    ]
    job = Job(runtime, tuple(kubelet), str(paths.kubelet), str(files.state / RESTARTS))
    return write_private(state / "node.json", msgspec.json.encode(job))


def _credentials(files: Files, node: str, address: str) -> tuple[Path, Pair]:
    """A kubelet's kubeconfig, and the certificate that it serves with."""
    user, groups = f"system:node:{node}", ["system:nodes"]
    serving = files.authority.issue(f"kubelet-{node}-serving", user, groups, hosts=[node, address])
    return files.client(f"kubelet-{node}", user, groups), serving


async def hold(config: NodeConfig, kubelet: Sequence[str], folder: Path, restarts: Path) -> int:
    """Serves the runtime, and keeps the kubelet once it can reach it; returns a status when either cannot go on."""
    stop = asyncio.Event()
    serving = asyncio.create_task(server.serve(config, stop))
    while not listens(Path(config.socket)) and not serving.done():
        await asyncio.sleep(0.01)
    keeping = asyncio.create_task(keep(lambda: Child(kubelet, log=folder / "kubelet.log"), config.name, restarts))
    keeping.add_done_callback(lambda _: stop.set())
    await serving
    if keeping.done():
        last = tail(folder / "kubelet.log", 8)
        logging.getLogger(__name__).error("the kubelet ended; its log ends with\n%s", last)
        return keeping.result()
    return 1


async def keep(start: Callable[[], Child], name: str, restarts: Path) -> int:
    """Runs a node's kubelet and starts it again when it ends; its pods live on meanwhile.

    Returns its status when it cannot be kept, or ends by itself before it ever settled: it is told wrong things then.
    """
    loop, backoff, settled = asyncio.get_running_loop(), Backoff(), False
    while True:
        began = loop.time()
        status = await _end(start())
        ran = loop.time() - began
        settled = settled or ran >= SETTLED or status < 0
        wait = backoff.after(ran)
        if wait is None or not settled:
            return status or 1
        record(restarts, f"kubelet of node {name}", status)
        await asyncio.sleep(wait)


async def _end(child: Child) -> int:
    """Status of a child once it has ended."""
    ended, descriptor = asyncio.Event(), os.pidfd_open(child.pid)
    asyncio.get_running_loop().add_reader(descriptor, ended.set)
    try:
        await ended.wait()
    finally:
        asyncio.get_running_loop().remove_reader(descriptor)
        os.close(descriptor)
    return child.wait() or 0


def in_user_namespace(uid_map: str) -> bool:
    """Whether a process with that uid_map (user_namespaces(7)) is in a user namespace below the first."""
    return uid_map.split() != ["0", "0", "4294967295"]


def main() -> None:
    """Runs the node that the file named on the command line describes, until it is killed or its kubelet ends."""
    path = Path(sys.argv[1])
    job = msgspec.json.decode(path.read_bytes(), type=Job)
    KUBELET.mkdir(parents=True, exist_ok=True)
    run(["mount", "--bind", job.folder, str(KUBELET)])
    # A container that root started could else write to the machine's nsenter while it is being entered (/proc/PID/exe).
    if os.geteuid() == 0 and not in_user_namespace(Path("/proc/self/uid_map").read_text()):
        run(["mount", "--rbind", "/usr", "/usr"])
        run(["mount", "-o", "remount,bind,ro", "/usr"])
    sys.exit(asyncio.run(hold(job.runtime, job.kubelet, path.parent, Path(job.restarts))))


if __name__ == "__main__":
    main()
