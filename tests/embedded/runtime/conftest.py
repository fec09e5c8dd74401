"""The kubelet's APIs, and a node's runtime that runs for real."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import grpc
import msgspec
import pytest

from clusters.embedded import identities, protos
from clusters.embedded.protos import Api, Message, Stub
from clusters.embedded.runtime.config import NodeConfig
from clusters.embedded.runtime.images import Entry, Image
from clusters.process import Child, tail
from clusters.sockets import listens
from clusters.wait import until
from tests.patience import PATIENCE

# What the holder does for a real node: a network with a route between pods, and a /run of its own.
PREPARE = """
mount -t tmpfs tmpfs /run && ip link set lo up && ip address add 172.30.0.1/32 dev lo
echo 1 > /proc/sys/net/ipv4/ip_forward || exit 1
"$@"  # not by exec: process 1 has to reap orphans, as the holder does, and the runtime does not
exit $?
"""


@pytest.fixture(scope="session")
def descriptors(programs: Path) -> Path:
    """The descriptor sets of the pinned modules, as they are built."""
    return programs / "descriptors"


@pytest.fixture(scope="session")
def cri(descriptors: Path) -> Api:
    return protos.load(descriptors / "cri.binpb")


class Node:
    """A runtime that serves, and the shortest way to speak to it."""

    def __init__(self, api: Api, folder: Path, channel: grpc.Channel) -> None:
        self.api, self.folder = api, folder
        self.runtime: Stub = api.stub("RuntimeService", channel)
        self.images: Stub = api.stub("ImageService", channel)

    def pod_config(self, name: str, **fields: Message) -> Message:
        config = {
            "metadata": {"name": name, "uid": f"uid-{name}", "namespace": "default"},
            "hostname": name,
            "log_directory": str(self.folder / "logs" / name),
            "linux": {"security_context": {"namespace_options": {"pid": self.api.CONTAINER}}},
        }
        return self.api.PodSandboxConfig(**{**config, **fields})

    def pod(self, name: str, **fields: Message) -> str:
        request = self.api.RunPodSandboxRequest(config=self.pod_config(name, **fields))
        return str(self.runtime.RunPodSandbox(request).pod_sandbox_id)

    def address(self, pod: str) -> str:
        return str(
            self.runtime.PodSandboxStatus(self.api.PodSandboxStatusRequest(pod_sandbox_id=pod)).status.network.ip
        )

    def create(self, pod: str, command: list[str], name: str = "main", **fields: Message) -> str:
        config = {
            "metadata": {"name": name},
            "image": {"image": "docker.io/library/busybox:latest"},
            "command": command,
            "log_path": f"{name}.log",
        }
        request = self.api.CreateContainerRequest(
            pod_sandbox_id=pod, config=self.api.ContainerConfig(**{**config, **fields})
        )
        return str(self.runtime.CreateContainer(request).container_id)

    def start(self, pod: str, command: list[str], name: str = "main", **fields: Message) -> str:
        container = self.create(pod, command, name, **fields)
        self.runtime.StartContainer(self.api.StartContainerRequest(container_id=container))
        return container

    def status(self, container: str) -> Message:
        return self.runtime.ContainerStatus(self.api.ContainerStatusRequest(container_id=container)).status

    def ended(self, container: str) -> Message:
        return until(
            lambda: self.status(container),
            lambda status: bool(status.state == self.api.CONTAINER_EXITED),
            what="the container's end",
            seconds=PATIENCE,
            interval=0.002,
        )

    def output(self, container: str) -> str:
        """What a container printed, once it ended."""
        log = Path(self.ended(container).log_path)
        return "".join(line.split(" ", 3)[3] for line in log.read_text().splitlines(keepends=True))

    def run(self, pod: str, command: list[str], **fields: Message) -> str:
        return self.output(self.start(pod, command, **fields))


@pytest.fixture(scope="session")
def machine() -> None:
    """Skips where the machine lacks what pods need."""
    missing = [name for name in ("bwrap", "ip", "nsenter", "unshare") if shutil.which(name) is None]
    if missing:
        pytest.skip(f"not on this machine: {', '.join(missing)}")
    probe = ["unshare", *_flags(), "true"]
    done = subprocess.run(probe, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"this machine does not allow namespaces: {done.stderr.strip()}")


def images_file(folder: Path) -> Path:
    """An images file with one image, which is the machine's own programs."""
    image = Image("busybox:latest", f"sha256:{0:064}", command=("sh",), size=1)
    (folder / "images.json").write_bytes(msgspec.json.encode([Entry(("busybox:*",), image)]))
    return folder / "images.json"


# Answers each request with its path and body in place of a URL, for tests to see what the real helper is told.
STREAMING = """
import http.server, os, socketserver, sys

class Answer(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(400 if b"refuse" in body else 200)
        self.end_headers()
        self.wfile.write(self.path.encode() + b" " + body)
    def address_string(self):
        return "runtime"

print("stub is", os.getpid(), flush=True)
socketserver.ThreadingUnixStreamServer(sys.argv[2], Answer).serve_forever()
"""


def streaming_program(folder: Path) -> Path:
    """A stand-in for the streaming helper, of which the runtime knows the control API only."""
    program = folder / "streaming"
    program.write_text(f"#!{sys.executable}\n{STREAMING}")
    program.chmod(0o755)
    return program


def _flags() -> list[str]:
    root = os.geteuid() == 0
    return [*identities.unshare(identities.kind(root=root), root=root), "-nmpf"]


@pytest.fixture(scope="module")
def node(
    programs: Path, descriptors: Path, cri: Api, machine: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Node]:
    """One node's runtime in namespaces of its own; its end is part of every test that uses it."""
    folder = tmp_path_factory.mktemp("node")
    for name in ("logs", "state", "allowed"):
        (folder / name).mkdir()
    config = NodeConfig(
        name="node-1",
        socket=str(folder / "s"),
        pods="10.244.1.0/24",
        logs=str(folder / "logs"),
        state=str(folder / "state"),
        descriptors=str(descriptors),
        streaming=str(streaming_program(folder)),
        images=str(images_file(folder)),
        address="172.30.0.1",
        shm=str(folder / "shm"),
        launch=str(programs / "bin" / "launch"),
        host_paths=(str(folder / "allowed"),),
        kubelet=str(folder / "kubelet"),
    )
    (folder / "node.json").write_bytes(msgspec.json.encode(config))
    server = [sys.executable, "-m", "clusters.embedded.runtime.server", str(folder / "node.json")]
    argv = ["unshare", *_flags(), "--mount-proc", "--kill-child", "sh", "-c", PREPARE, "sh", *server]
    root = Path(__file__).parents[3]
    child = Child(argv, log=folder / "log", env={**os.environ, "SECRET_OF_THE_HOST": "1"}, cwd=root)
    try:
        until(
            lambda: listens(folder / "s") or child.status() is not None,
            bool,
            what="the runtime's socket",
            seconds=PATIENCE,
            interval=0.01,
        )
        assert child.status() is None, tail(folder / "log")
        most = [("grpc.max_receive_message_length", 16 * 1024 * 1024)]  # as the kubelet's
        with grpc.insecure_channel(f"unix:{folder / 's'}", most) as channel:
            yield Node(cri, folder, channel)
    finally:
        child.stop(30)
    assert child.status() == 0, tail(folder / "log")
