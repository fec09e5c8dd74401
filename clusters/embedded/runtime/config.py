"""What a node's runtime is told when it starts: NODE.json.

Place: `node.py` writes it, `server.py` reads it. Limits: read once; only the images file may change while it runs.
"""

from pathlib import Path

import msgspec

from clusters.api import SpecError
from clusters.embedded.cgroups import Limits
from clusters.embedded.gpu.devices import Offer


class NodeConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One node, as its runtime sees it; all paths are absolute.

    Attributes:
        name: the node's name.
        socket: the unix socket on which the kubelet finds the runtime.
        pods: the node's pod network, as in "10.244.1.0/24".
        logs: folder of the pods' logs; the kubelet chooses the names in it.
        state: folder (0700) for the files that the runtime makes for pods and containers.
        descriptors: folder that holds `cri.binpb` and `deviceplugin.binpb`.
        streaming: the program that serves exec, attach and port-forward.
        images: the JSON file that says which image is which local environment.
        added_images: the JSON file with the images that the user added.
        host_paths: host folders that pods may mount by hostPath.
        kubelet: the kubelet's folder.
        launch: the program that is the last step into a container.
        proc: a /proc whose settings may be written, for those that are a pod's own.
        sys: what containers have as their /sys.
        shm: folder for the mounts of the pods' shared memory.
        gpus: what the device plugin offers; without devices there is no plugin.
        address: the node's address, on which GPU telemetry is served.
        faults: the file that tells which simulated GPUs have failed.
        limits: how containers are limited.
    """

    name: str
    socket: str
    pods: str
    logs: str
    state: str
    descriptors: str
    streaming: str
    images: str
    launch: str
    shm: str
    proc: str = "/proc"
    added_images: str | None = None
    sys: str = "/sys"
    host_paths: tuple[str, ...] = ()
    kubelet: str = "/var/lib/kubelet"
    gpus: Offer = Offer()
    address: str = "127.0.0.1"
    faults: str = ""
    limits: Limits = Limits()


def read(path: Path) -> NodeConfig:
    """The configuration in a NODE.json.

    Raises:
        SpecError: the file is not one; says where.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=NodeConfig)
    except msgspec.MsgspecError as error:
        raise SpecError(f"{path} is no configuration of a node's runtime: {error}") from error
