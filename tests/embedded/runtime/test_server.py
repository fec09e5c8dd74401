"""A node's runtime as its kubelet sees it: over the Container Runtime Interface, with real pods."""

import json
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import pytest

from clusters.wait import until
from tests.patience import PATIENCE

pytestmark = pytest.mark.cluster
Node = Any  # the fixture `node` is conftest.Node; test modules cannot import from a conftest


def refusal(call: Callable[[], object]) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return caught.value.code(), caught.value.details()


def test_version_and_status_are_what_the_kubelet_needs(node: Node) -> None:
    version = node.runtime.Version(node.api.VersionRequest())
    status = node.runtime.Status(node.api.StatusRequest(verbose=True))
    driver = node.runtime.RuntimeConfig(node.api.RuntimeConfigRequest()).linux.cgroup_driver
    assert (version.runtime_name, version.runtime_api_version) == ("gpulab", "v1")
    assert {each.type: each.status for each in status.status.conditions} == {"RuntimeReady": True, "NetworkReady": True}
    assert json.loads(status.info["config"])["name"] == "node-1"
    assert driver == node.api.CGROUPFS


def test_a_pod_has_an_address_until_it_is_stopped(node: Node) -> None:
    pod = node.pod("addressed")
    address = node.address(pod)
    assert re.fullmatch(r"10\.244\.1\.\d+", address)
    for _ in range(2):
        node.runtime.StopPodSandbox(node.api.StopPodSandboxRequest(pod_sandbox_id=pod))
    assert node.address(pod) == ""
    assert node.address(node.pod("heir")) == address
    for _ in range(2):
        node.runtime.RemovePodSandbox(node.api.RemovePodSandboxRequest(pod_sandbox_id=pod))
    request = node.api.PodSandboxStatusRequest(pod_sandbox_id=pod)
    said = grpc.StatusCode.NOT_FOUND, f"no pod sandbox {pod!r} on node 'node-1'"
    assert refusal(lambda: node.runtime.PodSandboxStatus(request)) == said


def test_what_the_kubelet_may_not_ask_is_refused_with_a_sentence(node: Node) -> None:
    pod = node.pod("over")
    ready = node.create(pod, ["true"])
    node.runtime.StopPodSandbox(node.api.StopPodSandboxRequest(pod_sandbox_id=pod))
    handled = node.api.RunPodSandboxRequest(config=node.pod_config("handled"), runtime_handler="kata")
    start = node.api.StartContainerRequest(container_id=ready)
    image = node.api.RemoveImageRequest(image=node.api.ImageSpec(image="docker.io/library/busybox:latest"))
    calls = {
        "the runtime class asks for the handler 'kata'; this node has the default only": partial(
            node.runtime.RunPodSandbox, handled
        ),
        f"pod sandbox {pod!r} is stopped, so no container can be created in it": partial(node.create, pod, ["true"]),
        f"pod sandbox {pod!r} is stopped, so no container can be started in it": partial(
            node.runtime.StartContainer, start
        ),
        "the image docker.io/library/busybox:latest is an environment of this machine, which no node removes": partial(
            node.images.RemoveImage, image
        ),
    }
    for said, call in calls.items():
        assert refusal(call) == (grpc.StatusCode.FAILED_PRECONDITION, said)


def test_output_and_exit_code_come_back(node: Node) -> None:
    container = node.start(node.pod("talker"), ["sh", "-c", "echo out; echo err >&2; printf last; exit 3"])
    status = node.ended(container)
    assert (status.exit_code, status.reason, status.message) == (3, "Error", "")
    assert status.created_at <= status.started_at <= status.finished_at
    rows = [line.split(" ", 1)[1] for line in Path(status.log_path).read_text().splitlines()]
    assert sorted(rows) == ["stderr F err", "stdout F out", "stdout P last"]


def test_success_is_completed(node: Node) -> None:
    status = node.ended(node.start(node.pod("happy"), ["true"]))
    assert (status.exit_code, status.reason) == (0, "Completed")


@pytest.mark.parametrize(
    ("command", "why"),
    [
        ("no-such-program", 'exec: "no-such-program": executable file not found in $PATH'),
        ("/etc/passwd", 'exec: "/etc/passwd": permission denied'),
        ("/no/such", 'exec: "/no/such": stat /no/such: no such file or directory'),
    ],
)
def test_a_program_that_cannot_be_run_is_a_start_error(node: Node, command: str, why: str) -> None:
    pod = node.pod(f"broken{command.replace('/', '-')}")
    container = node.create(pod, [command])
    request = node.api.StartContainerRequest(container_id=container)
    said = f"the container could not be started: {why}"
    assert refusal(lambda: node.runtime.StartContainer(request)) == (grpc.StatusCode.UNKNOWN, said)
    status = node.status(container)
    assert (status.state, status.exit_code, status.reason) == (node.api.CONTAINER_EXITED, 128, "StartError")
    assert status.message == said


def test_a_container_has_its_own_environment_and_nothing_of_the_host(node: Node) -> None:
    envs = [{"key": "a.b-c", "value": b"1 2"}, {"key": "PLAIN", "value": b"x\ny"}, {"key": "LD_PRELOAD", "value": b""}]
    shown = node.run(node.pod("env"), ["env", "-0"], envs=envs).strip("\n")
    assert dict(row.split("=", 1) for row in shown.split("\0") if row) == {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": "/root",
        "HOSTNAME": "env",
        "a.b-c": "1 2",
        "PLAIN": "x y".replace(" ", "\n"),
        "LD_PRELOAD": "",
    }


def test_root_in_a_container_holds_the_default_capabilities_and_no_more(node: Node) -> None:
    shown = node.run(node.pod("root"), ["grep", "-E", "^(Cap(Eff|Bnd)|NoNewPrivs)", "/proc/self/status"])
    assert shown.split() == ["CapEff:", "00000000a80425fb", "CapBnd:", "00000000a80425fb", "NoNewPrivs:", "1"]


def test_another_user_holds_none_and_still_binds_port_80(node: Node) -> None:
    script = "import os, socket; socket.socket().bind(('', 80)); print(os.getuid(), os.getgid())"
    security = {"run_as_user": {"value": 1000}, "run_as_group": {"value": 2000}}
    shown = node.run(
        node.pod("user"),
        ["sh", "-c", f'grep CapEff /proc/self/status; whoami; /usr/bin/python3 -c "{script}"'],
        linux={"security_context": security},
    )
    assert shown.split() == ["CapEff:", "0000000000000000", "user1000", "1000", "2000"]


@pytest.mark.parametrize("path", ["/proc/sys/kernel/core_pattern", "/proc/sys/vm/swappiness", "/usr/bin/env"])
def test_the_machine_is_read_only(node: Node, path: str) -> None:
    # Opened for writing, never written: a failure of this test must not change the machine.
    script = f"import os\ntry: os.open({path!r}, os.O_WRONLY)\nexcept OSError as error: print(error.strerror)"
    assert node.run(
        node.pod(f"reader{path.replace('/', '-').replace('_', '-')}"), ["/usr/bin/python3", "-c", script]
    ) in {
        "Read-only file system\n",
        "Permission denied\n",  # an ordinary user, whose root in the container is nobody to the machine
    }


def test_a_container_changes_the_network_of_its_pod_only_if_it_may(node: Node) -> None:
    pod, command = node.pod("net"), ["ip", "link", "set", "lo", "down"]
    security = {"capabilities": {"add_capabilities": ["NET_ADMIN"]}}
    assert node.run(pod, command) == "RTNETLINK answers: Operation not permitted\n"
    assert node.run(pod, command, name="admin", linux={"security_context": security}) == ""


def test_volumes_are_at_their_paths(node: Node) -> None:
    volumes = node.folder / "kubelet" / "pods" / "uid-volumes"
    for name in ("token", "data", "data/inner"):
        (volumes / name).mkdir(parents=True)
    (volumes / "token" / "ca.crt").write_text("certificate\n")
    (volumes / "one").write_text("alone\n")
    (volumes / "message").write_text("")
    mounts: list[dict[str, Any]] = [
        {"container_path": "/data/inner", "host_path": str(volumes / "token"), "readonly": True},
        {"container_path": "/data", "host_path": str(volumes / "data")},
        {"container_path": "/var/run/secrets/token", "host_path": str(volumes / "token"), "readonly": True},
        {"container_path": "/etc/one", "host_path": str(volumes / "one")},
        {"container_path": "/dev/termination-log", "host_path": str(volumes / "message")},
    ]
    script = """
    cat /var/run/secrets/token/ca.crt /data/inner/ca.crt /etc/one
    echo kept > /data/file; echo bye > /dev/termination-log; touch /data/inner/x
    """
    container = node.start(node.pod("volumes"), ["sh", "-c", script], mounts=mounts)
    shown = node.output(container)
    assert shown.splitlines()[:3] == ["certificate", "certificate", "alone"]
    assert "Read-only file system" in shown
    assert ((volumes / "data" / "file").read_text(), (volumes / "message").read_text()) == ("kept\n", "bye\n")
    assert [each.host_path for each in node.status(container).mounts] == [each["host_path"] for each in mounts]


def test_host_paths_are_mounted_only_where_allowed(node: Node) -> None:
    pod = node.pod("host")
    (node.folder / "allowed" / "model").write_text("weights\n")
    (node.folder / "allowed" / "escape").symlink_to("/etc")
    allowed = [{"container_path": "/models", "host_path": str(node.folder / "allowed"), "readonly": True}]
    assert node.run(pod, ["cat", "/models/model"], mounts=allowed) == "weights\n"
    for path in ("/etc", str(node.folder / "allowed" / "escape"), str(node.folder / "kubelet" / "pods" / "other")):
        mounts = [{"container_path": "/x", "host_path": path}]
        assert refusal(partial(node.create, pod, ["true"], mounts=mounts)) == (
            grpc.StatusCode.FAILED_PRECONDITION,
            f"container 'main' mounts the host folder {path} (hostPath), which this cluster does not allow; add it to "
            f"hostPaths in cluster.yaml (now: {node.folder / 'allowed'}) and start the cluster again",
        )


@pytest.mark.parametrize(
    "command", [["sh", "-c", "sleep 1000"], ["sleep", "1000"], ["/usr/bin/python3", "-m", "http.server"]]
)
def test_a_program_ends_on_sigterm(node: Node, command: list[str]) -> None:
    container = node.start(node.pod(f"stopped-{len(command)}-{command[0][0] == '/'}"), command)
    for _ in range(2):
        node.runtime.StopContainer(node.api.StopContainerRequest(container_id=container, timeout=10))
    assert (node.status(container).exit_code, node.status(container).reason) == (143, "Error")


def test_a_program_may_end_as_it_likes_within_its_grace(node: Node) -> None:
    script = "trap 'echo bye; exit 5' TERM; echo ready; while :; do sleep 0.01; done"
    container = node.start(node.pod("graceful"), ["sh", "-c", script])
    log = Path(node.status(container).log_path)
    until(log.read_text, lambda text: "ready" in text, what="the trap", seconds=PATIENCE, interval=0.002)
    node.runtime.StopContainer(node.api.StopContainerRequest(container_id=container, timeout=10))
    assert node.output(container) == "ready\nbye\n"
    assert node.status(container).exit_code == 5


def test_without_grace_it_is_killed(node: Node) -> None:
    container = node.start(node.pod("killed"), ["sleep", "1000"])
    node.runtime.StopContainer(node.api.StopContainerRequest(container_id=container, timeout=0))
    assert node.status(container).exit_code == 137


def test_a_container_that_ended_is_not_started_again_and_one_that_runs_can_be_removed(node: Node) -> None:
    api, pod = node.api, node.pod("once")
    container = node.start(pod, ["true"], "first")
    node.ended(container)
    said = grpc.StatusCode.FAILED_PRECONDITION, f"container {container!r} was already started"
    assert refusal(lambda: node.runtime.StartContainer(api.StartContainerRequest(container_id=container))) == said
    container = node.start(pod, ["sleep", "1000"], "second")
    node.runtime.RemoveContainer(api.RemoveContainerRequest(container_id=container))
    assert refusal(lambda: node.status(container))[0] == grpc.StatusCode.NOT_FOUND


def test_the_stop_signal_can_be_chosen(node: Node) -> None:
    container = node.start(node.pod("chosen"), ["sleep", "1000"], stop_signal=node.api.SIGNAL_SIGUSR1)
    node.runtime.StopContainer(node.api.StopContainerRequest(container_id=container, timeout=10))
    assert node.status(container).exit_code == 128 + 10


def test_pods_reach_each_other(node: Node) -> None:
    serve = """import socket
server = socket.create_server(("", 80))
print("up", flush=True)
connection, address = server.accept()
connection.send(address[0].encode())
"""
    server, client = node.pod("server"), node.pod("client")
    container = node.start(server, ["/usr/bin/python3", "-c", serve])
    until(
        Path(node.status(container).log_path).read_text,
        lambda text: "up" in text,
        what="the server",
        seconds=PATIENCE,
        interval=0.002,
    )
    ask = f"import socket; print(socket.create_connection(({node.address(server)!r}, 80), 5).recv(99).decode())"
    assert node.run(client, ["/usr/bin/python3", "-c", ask]) == f"{node.address(client)}\n"


def test_a_pod_on_the_nodes_network_sees_it(node: Node) -> None:
    options = {"network": node.api.NODE, "pid": node.api.CONTAINER}
    config = {"linux": {"security_context": {"namespace_options": options}}, "hostname": ""}
    pod = node.pod("on-node", **config)
    assert "172.30.0.1" in node.run(pod, ["sh", "-c", "hostname; ip -brief address"])
    assert node.address(pod) == ""


def test_dns_and_sysctls_of_a_pod(node: Node) -> None:
    dns = {"servers": ["10.96.0.10"], "searches": ["svc.cluster.local", "cluster.local"], "options": ["ndots:5"]}
    security = {"namespace_options": {"pid": node.api.CONTAINER}}
    linux = {"sysctls": {"net.ipv4.ip_local_port_range": "20000 30000"}, "security_context": security}
    shown = node.run(
        node.pod("tuned", dns_config=dns, linux=linux),
        ["cat", "/etc/resolv.conf", "/proc/sys/net/ipv4/ip_local_port_range"],
    )
    assert shown == "nameserver 10.96.0.10\nsearch svc.cluster.local cluster.local\noptions ndots:5\n20000\t30000\n"


def test_lists_follow_their_filters(node: Node) -> None:
    pods = [node.pod(f"listed-{n}", labels={"app": "listed", "n": str(n)}) for n in (1, 2)]
    container = node.start(pods[1], ["true"], labels={"of": "listed"})
    node.ended(container)
    api = node.api

    def listed(**wanted: object) -> list[str]:
        request = api.ListPodSandboxRequest(filter=wanted)
        return [each.id for each in node.runtime.ListPodSandbox(request).items]

    def contained(**wanted: object) -> list[str]:
        request = api.ListContainersRequest(filter={"label_selector": {"of": "listed"}, **wanted})
        return [each.id for each in node.runtime.ListContainers(request).containers]

    assert listed(label_selector={"app": "listed"}) == pods
    assert listed(label_selector={"app": "listed", "n": "2"}) == listed(id=pods[1]) == pods[1:]
    assert listed(label_selector={"app": "listed"}, state={"state": api.SANDBOX_NOTREADY}) == []
    assert contained() == contained(pod_sandbox_id=pods[1], state={"state": api.CONTAINER_EXITED}) == [container]
    assert contained(pod_sandbox_id=pods[0]) == contained(state={"state": api.CONTAINER_RUNNING}) == []
    for _ in range(2):
        node.runtime.RemoveContainer(api.RemoveContainerRequest(container_id=container))
    assert contained() == []


def test_a_rotated_log_goes_on_in_a_new_file(node: Node) -> None:
    container = node.start(
        node.pod("rotated"), ["sh", "-c", "echo one; until [ -e /tmp/go ]; do sleep 0.01; done; echo two"]
    )
    log = Path(node.status(container).log_path)
    until(log.read_text, bool, what="the first line", seconds=PATIENCE, interval=0.002)
    old = log.rename(f"{log}.1")
    node.runtime.ReopenContainerLog(node.api.ReopenContainerLogRequest(container_id=container))
    node.runtime.ExecSync(node.api.ExecSyncRequest(container_id=container, cmd=["touch", "/tmp/go"]))
    assert node.output(container) == "two\n"
    assert old.read_text().endswith(" stdout F one\n")


def test_events_tell_the_life_of_a_container(node: Node) -> None:
    api = node.api
    events = node.runtime.GetContainerEvents(api.GetEventsRequest())
    events.initial_metadata()
    pod = node.pod("told")
    container = node.start(pod, ["sh", "-c", "exit 3"])
    seen = [next(events) for _ in range(3)]
    events.cancel()
    assert {each.container_id for each in seen} == {container}
    kinds = [api.CONTAINER_CREATED_EVENT, api.CONTAINER_STARTED_EVENT, api.CONTAINER_STOPPED_EVENT]
    assert sorted(each.container_event_type for each in seen) == kinds
    assert {each.pod_sandbox_status.metadata.name for each in seen} == {"told"}
    (last,) = [each for each in seen if each.container_event_type == api.CONTAINER_STOPPED_EVENT]
    assert [each.exit_code for each in last.containers_statuses] == [3]


def test_what_comes_later_says_so(node: Node) -> None:
    api = node.api
    calls: dict[str, Callable[[], object]] = {
        "CheckpointContainer": lambda: node.runtime.CheckpointContainer(api.CheckpointContainerRequest()),
    }
    for name, call in calls.items():
        assert refusal(call) == (grpc.StatusCode.UNIMPLEMENTED, f"gpulab's runtime does not offer {name} yet")


def test_a_pod_that_asks_too_much_is_refused_and_leaves_nothing(node: Node) -> None:
    before = sorted((node.folder / "shm").iterdir())
    options = {"pid": node.api.NODE}
    assert refusal(lambda: node.pod("greedy", linux={"security_context": {"namespace_options": options}})) == (
        grpc.StatusCode.FAILED_PRECONDITION,
        "pod default/greedy asks for hostPID, which the embedded cluster does not offer; leave it out or use "
        "--cluster kind",
    )
    security = {"namespace_options": {"pid": node.api.CONTAINER}}
    linux = {"sysctls": {"net.no_such": "1"}, "security_context": security}
    assert refusal(lambda: node.pod("wrong", linux=linux))[0] == grpc.StatusCode.INTERNAL
    assert sorted((node.folder / "shm").iterdir()) == before


def test_images_are_the_prepared_ones(node: Node) -> None:
    api, reference = node.api, "docker.io/library/busybox:latest"
    found = node.images.ImageStatus(api.ImageStatusRequest(image={"image": reference})).image
    assert found.id.startswith("sha256:")
    assert (found.uid.value, found.pinned) == (0, True)
    assert node.images.PullImage(api.PullImageRequest(image={"image": reference})).image_ref == found.id
    unknown = {"image": "example.com/nothing:1"}
    assert not node.images.ImageStatus(api.ImageStatusRequest(image=unknown)).HasField("image")
    code, sentence = refusal(lambda: node.images.PullImage(api.PullImageRequest(image=unknown)))
    assert code == grpc.StatusCode.NOT_FOUND
    assert "example.com/nothing:1" in sentence
    disk = node.images.ImageFsInfo(api.ImageFsInfoRequest()).image_filesystems[0]
    assert disk.used_bytes.value > 0
