"""What a hostile pod cannot do: reach the cluster's secrets, other pods, the host or any network, or gain rights.

Each pod here tries what it should not be able to and prints what came of it. Nothing is written to a setting of the
machine: what must not be writable is opened, and closed again.
"""

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from clusters.embedded.backend import EmbeddedCluster
from clusters.process import CommandFailed
from tests.conftest import Kubectl

pytestmark = pytest.mark.cluster
REPOSITORY = Path(__file__).parents[2]
OUTSIDE = "192.0.2.1"  # TEST-NET-1 (RFC 5737), which is nobody's

TRIES = r"""
import json, os, socket, ssl, subprocess, sys, urllib.error, urllib.request
PATHS, PORT, OUTSIDE = json.loads(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
TOKEN = "/var/run/secrets/kubernetes.io/serviceaccount/token"
UNVERIFIED = ssl._create_unverified_context()
def error_of(action, *words):
    try: return f"done: {action(*words)}"
    except OSError as error: return error.strerror or type(error).__name__

def status(url, token=None):
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"} if token else {})
    try: return urllib.request.urlopen(request, context=UNVERIFIED, timeout=10).status
    except urllib.error.HTTPError as error: return error.code
    except OSError as error: return str(error)

def connect(address, port):
    return socket.create_connection((address, port), 10).close()

def opened(path):
    os.close(os.open(path, os.O_WRONLY))

def fields(path):
    return dict(line.split(":\t", 1) for line in open(path).read().splitlines() if ":\t" in line)

def keys():
    found = []
    for folder, folders, files in os.walk("/"):
        if folder in ("/proc", "/sys", "/usr", "/dev"):
            folders.clear()
            files = []
        for name in files:
            path = os.path.join(folder, name)
            if os.path.isfile(path) and b"PRIVATE KEY" in open(path, "rb").read(1 << 20):
                found.append(path)
    return found

def tries():
    token = open(TOKEN).read()
    yield "seen paths", [path for path in PATHS if os.path.exists(path)]
    yield "private keys", keys()
    yield "unix sockets", [row.split()[-1] for row in open("/proc/net/unix").read().splitlines()[1:] if "/" in row]
    yield "kubelet", [status("https://172.30.0.1:10250/pods", each) for each in (None, token)]
    api = "https://" + os.environ["KUBERNETES_SERVICE_HOST"]
    yield "api", [status(api + "/api/v1/secrets", each) for each in (None, token)]
    folders = [os.path.join(at, name) for at, _, names in os.walk("/run") for name in names if name == "token"]
    yield "tokens", sorted({os.path.realpath(path) for path in folders})
    yield "host's loopback", error_of(connect, "127.0.0.1", PORT)
    yield "outside", error_of(connect, OUTSIDE, 80)
    yield "processes", sorted(open(f"/proc/{pid}/comm").read().strip() for pid in os.listdir("/proc") if pid.isdigit())
    yield "signals", [error_of(os.kill, pid, 0) for pid in (3000, 30000)]
    yield "status", {name: fields("/proc/self/status")[name] for name in ("CapEff", "NoNewPrivs", "Seccomp")}
    yield "first", fields("/proc/1/status")["Seccomp"]
    yield "settings", [error_of(opened, path) for path in ("/proc/sys/kernel/core_pattern", "/proc/sys/vm/swappiness")]
    yield "machine", [error_of(opened, path) for path in ("/sys/kernel/mm/ksm/run", "/usr/bin/env", "/proc/1/exe")]
    yield "devices", sorted(os.listdir("/dev"))
    yield "disk", error_of(os.mknod, "/tmp/disk", 0o60600, os.makedev(8, 0))
    for command in ("mount -t tmpfs x /mnt", "umount /proc/sys", "unshare -U true", "ip link add x type bridge"):
        yield command, subprocess.run(command.split(), capture_output=True).returncode

print(json.dumps(dict(tries())))
"""


def pod(name: str, command: list[str], spec: dict[str, Any] | None = None, **container: Any) -> str:
    main = {"name": "main", "image": "python:3.12", "command": command, **container}
    body = {"restartPolicy": "Never", "terminationGracePeriodSeconds": 0, "containers": [main], **(spec or {})}
    return json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": body})


def state_of(cluster: EmbeddedCluster) -> Path:
    return cluster.kubeconfig.parent


@pytest.fixture(scope="module")
def found(embedded: EmbeddedCluster, kubectl: Kubectl) -> Iterator[dict[str, Any]]:
    """What came of each try of a pod that runs as user 0 beside another pod."""
    paths = [
        state_of(embedded),
        REPOSITORY,
        REPOSITORY / "results",
        REPOSITORY / "labs",
        Path.home(),
        Path("/var/lib/kubelet"),
    ]
    paths += [Path("/run/gpulab"), Path("/etc/shadow"), Path("/dev/vda"), Path("/dev/kmsg")]
    # /root is there, as in every image, but empty: what lies in it on the machine is asked for instead.
    asked = [str(each) for path in paths for each in ([path] if path != Path("/root") else path.iterdir())]
    with socket.create_server(("127.0.0.1", 0)) as listener:
        words = [json.dumps(asked), str(listener.getsockname()[1]), OUTSIDE]
        kubectl("apply", "-f", "-", stdin=pod("neighbour", ["sleep", "31415"]))
        kubectl("apply", "-f", "-", stdin=pod("hostile", ["python3", "-c", TRIES, *words]))
        kubectl.phase("neighbour", "Running")
        kubectl.wait_for(
            lambda: kubectl.get("pod", "hostile")["status"]["phase"],
            lambda phase: phase in ("Succeeded", "Failed"),
            "the hostile pod to have tried all",
        )
    said = kubectl("logs", "hostile")
    assert said.startswith("{"), said
    yield json.loads(said)
    kubectl("delete", "pod", "hostile", "neighbour", "--wait=false")


def test_it_sees_no_folder_of_the_cluster_or_of_the_grader(found: dict[str, Any]) -> None:
    assert found["seen paths"] == []
    assert found["private keys"] == []
    assert found["unix sockets"] == []


def test_it_gets_nothing_from_kubelets_and_the_api_but_what_its_account_may(found: dict[str, Any]) -> None:
    assert found["kubelet"] == [401, 403]
    assert found["api"] == [401, 403]
    (token,) = found["tokens"]
    assert token.startswith("/run/secrets/kubernetes.io/serviceaccount/")


def test_it_reaches_neither_the_hosts_loopback_nor_a_network_outside(found: dict[str, Any]) -> None:
    assert found["host's loopback"] == "Connection refused"
    assert found["outside"] in {"No route to host", "TimeoutError", "timed out"}


def test_it_sees_its_own_processes_only(found: dict[str, Any]) -> None:
    assert found["processes"] == ["bwrap", "python3"]
    assert found["signals"] == ["No such process"] * 2


def test_it_holds_the_default_rights_under_the_default_filter(found: dict[str, Any]) -> None:
    assert found["status"] == {"CapEff": "00000000a80425fb", "NoNewPrivs": "1", "Seccomp": "2"}
    assert found["first"] == "2"


def test_it_cannot_change_the_machine(found: dict[str, Any]) -> None:
    refusals = {"Read-only file system", "Permission denied", "No such file or directory"}
    assert set(found["settings"]) <= refusals - {"No such file or directory"}
    assert set(found["machine"]) <= refusals | {"Text file busy"}  # that of process 1, which runs
    assert found["disk"] == "Operation not permitted"
    commands = "mount -t tmpfs x /mnt", "umount /proc/sys", "unshare -U true", "ip link add x type bridge"
    assert 0 not in [found[command] for command in commands]
    own = {"core", "fd", "full", "mqueue", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin", "stdout"}
    assert set(found["devices"]) <= own | {"termination-log", "tty", "urandom", "zero"}


def test_a_set_user_id_program_gains_nothing(kubectl: Kubectl, embedded: EmbeddedCluster) -> None:
    if embedded.traits.users == "mapped":
        pytest.skip("one id stands for all here, so there is nobody else to become")
    mounts = {"volumeMounts": [{"name": "shared", "mountPath": "/shared"}]}
    spec = {
        "volumes": [{"name": "shared", "emptyDir": {}}],
        "initContainers": [
            {
                "name": "plants",
                "image": "busybox",
                "command": ["sh", "-c", "cp /usr/bin/id /shared/id && chmod 4755 /shared/id"],
                **mounts,
            }
        ],
    }
    security = {"securityContext": {"runAsUser": 1000, "allowPrivilegeEscalation": True}}
    kubectl("apply", "-f", "-", stdin=pod("setuid", ["/shared/id", "-u"], spec, **security, **mounts))
    kubectl.phase("setuid", "Succeeded")
    assert kubectl("logs", "setuid") == "1000\n"
    kubectl("delete", "pod", "setuid", "--wait=false")


def test_the_host_network_of_a_pod_is_the_nodes_without_rights_over_it(kubectl: Kubectl) -> None:
    script = (
        "grep -c @ /proc/net/unix; ip link add x type bridge 2>&1; nft list ruleset 2>&1 | tail -1; "
        "ip -oneline link | cut -d: -f2 | tr -d ' ' | grep -v ^veth | tr '\\n' ' '"
    )
    kubectl("apply", "-f", "-", stdin=pod("on-node", ["sh", "-c", script], {"hostNetwork": True}))
    kubectl.phase("on-node", "Succeeded")
    abstract, refused, rules, links = kubectl("logs", "on-node").splitlines()
    assert abstract == "0"  # nobody listens on a socket without a file, whose rights would guard it
    assert refused == "RTNETLINK answers: Operation not permitted"
    assert "Operation not permitted" in rules
    assert links.split() == ["lo", "nodes"]
    kubectl("delete", "pod", "on-node", "--wait=false")


def test_a_folder_of_the_host_is_refused(kubectl: Kubectl) -> None:
    spec = {"volumes": [{"name": "host", "hostPath": {"path": "/etc"}}]}
    mounts = {"volumeMounts": [{"name": "host", "mountPath": "/host"}]}
    kubectl("apply", "-f", "-", stdin=pod("mounts", ["true"], spec, **mounts))
    waiting = kubectl.wait_for(
        lambda: (
            kubectl.get("pod", "mounts")["status"].get("containerStatuses", [{}])[0].get("state", {}).get("waiting", {})
        ),
        lambda state: "allow" in state.get("message", ""),
        "the container to be refused",
    )
    assert "mounts the host folder /etc (hostPath), which this cluster does not allow" in waiting["message"]
    kubectl("delete", "pod", "mounts", "--wait=false")


def test_pod_security_is_enforced_where_a_namespace_asks(kubectl: Kubectl, embedded: EmbeddedCluster) -> None:
    kubectl("create", "namespace", "strict")
    kubectl("label", "namespace", "strict", "pod-security.kubernetes.io/enforce=restricted")
    with pytest.raises(CommandFailed) as caught:
        kubectl("apply", "-n", "strict", "-f", "-", stdin=pod("lax", ["true"]))
    assert 'violates PodSecurity "restricted:latest"' in caught.value.output
    security = {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "runAsNonRoot": True,
        "runAsUser": 1000,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    script = "grep -E '^(CapBnd|Seccomp|NoNewPrivs):' /proc/self/status"
    # Where one id stands for all, the kubelet cannot give a token to the pod's user.
    text = pod("well", ["sh", "-c", script], {"automountServiceAccountToken": False}, securityContext=security)
    kubectl("apply", "-n", "strict", "-f", "-", stdin=text)
    kubectl.wait_for(
        lambda: kubectl.get("pod", "well", "-n", "strict")["status"]["phase"], lambda it: it == "Succeeded", "its end"
    )
    shown = kubectl("logs", "well", "-n", "strict").split()
    assert shown[0::2] == ["CapBnd:", "NoNewPrivs:", "Seccomp:"]
    assert shown[3::2] == ["1", "2"]
    if embedded.traits.users == "real":  # else its user namespace begins with a full bounding set, which gives nothing
        assert shown[1] == "0000000000000000"
    kubectl("delete", "namespace", "strict", "--wait=false")


def test_a_privileged_pod_has_no_rights_over_its_node(kubectl: Kubectl) -> None:
    # dd opens the setting for writing, and writes nothing.
    script = (
        "ls -A /dev | grep -cE 'vd|sd|nvme|kmsg|mem$'; umount /proc/sys 2>&1; mount -t proc x /mnt 2>&1 | head -1; "
        "unshare -mpf mount -t proc x /mnt 2>&1 | head -1; "
        "dd of=/proc/sys/kernel/core_pattern count=0 conv=notrunc 2>&1 | head -1"
    )
    text = pod("powerful", ["sh", "-c", script], securityContext={"privileged": True})
    kubectl("apply", "-f", "-", stdin=text)
    kubectl.phase("powerful", "Succeeded")
    devices, uncover, own, nested, setting = kubectl("logs", "powerful").splitlines()
    assert devices == "0"
    assert uncover == "umount: /proc/sys: must be superuser to unmount."
    assert own == nested == "mount: /mnt: permission denied."
    assert "Read-only file system" in setting or "Permission denied" in setting
    kubectl("delete", "pod", "powerful", "--wait=false")
