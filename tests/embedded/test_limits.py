"""Limits of containers that are real, and statistics that are true, with each way of limiting that this machine has."""

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from clusters.api import SpecError
from clusters.embedded import backend, cgroups, state
from clusters.embedded.backend import EmbeddedCluster
from clusters.process import CommandFailed
from clusters.wait import until
from tests.conftest import Kubectl, Launcher
from tests.patience import PATIENCE

pytestmark = pytest.mark.cluster

# Takes twice the limit at once, and tells each 10 ms that it is still there.
OVERSHOOT = """
import time
print("began", flush=True)
kept = bytearray(b"x") * (128 << 20)
for _ in range(3000):
    print("over", flush=True)
    time.sleep(0.01)
"""
# Prints how many processes there may be, and lives on.
FORKS = """
import subprocess, sys, time
started = []
try:
    while True:
        started.append(subprocess.Popen(["sleep", "1000"]))
except OSError as error:
    print(len(started), error.strerror, flush=True)
"""

# Keeps 48 MiB, and half a core busy where nothing holds it back.
BUSY = """
import time
kept = bytearray(b"x") * (48 << 20)
while True:
    until = time.thread_time() + 0.02
    while time.thread_time() < until: pass
    time.sleep(0.02)
"""


def own_cgroups(name: str) -> list[Path]:
    """The folders of the cluster of that name among this machine's cgroups."""
    tops = {Path(folder).parent for folder in cgroups.choose("any", "probe").folders.values()}
    return [found for top in tops for found in top.glob(f"gpulab-{name}-????????")]


def kinds() -> list[str]:
    return sorted({cgroups.choose("any", "probe").kind, "watch"})


@pytest.fixture(scope="module", params=kinds())
def limited(request: pytest.FixtureRequest, launcher: Launcher) -> Iterator[EmbeddedCluster]:
    """A cluster of one node, limited in each way."""
    kind = str(request.param)
    cluster = launcher.start(f"limits-{kind[-2:]}", text=f"nodes: [{{name: a}}]\nlimits: {kind}\n")
    run(Kubectl(cluster), "busy", ["python3", "-c", BUSY], cpu="200m")  # its figures come after a while
    yield cluster
    cluster.stop()


@pytest.fixture
def kubectl(limited: EmbeddedCluster) -> Kubectl:
    return Kubectl(limited)


def by_cgroup(cluster: EmbeddedCluster) -> bool:
    return cluster.spec.limits != "watch"


def run(kubectl: Kubectl, name: str, command: list[str], **resources: str) -> None:
    container = {"name": "main", "image": "python:3", "command": command, "resources": {"limits": resources}}
    spec = {"restartPolicy": "Never", "containers": [container], "terminationGracePeriodSeconds": 0}
    kubectl("apply", "-f", "-", stdin=json.dumps(_pod(name, spec)))


def _pod(name: str, spec: dict[str, object]) -> dict[str, object]:
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}


@pytest.mark.alone
def test_too_much_memory_ends_in_an_oomkilled_soon(limited: EmbeddedCluster, kubectl: Kubectl) -> None:
    run(kubectl, "greedy", ["python3", "-c", OVERSHOOT], memory="64Mi")
    ended = kubectl.phase("greedy", "Failed")["status"]["containerStatuses"][0]["state"]["terminated"]
    assert (ended["reason"], ended["exitCode"]) == ("OOMKilled", 137)
    said = kubectl("logs", "greedy").split()
    assert said[0] == "began"
    assert said.count("over") <= (0 if by_cgroup(limited) else 30)


@pytest.mark.alone
def test_a_fork_bomb_stops_at_its_pods_bound(limited: EmbeddedCluster, kubectl: Kubectl) -> None:
    run(kubectl, "bomb", ["python3", "-c", FORKS])
    pod = kubectl.wait_for(
        lambda: kubectl.get("pod", "bomb"), lambda found: found["status"]["phase"] in {"Succeeded", "Failed"}, "the end"
    )
    ended = pod["status"]["containerStatuses"][0]["state"]["terminated"]
    if by_cgroup(limited):
        count, why = kubectl("logs", "bomb").strip().split(" ", 1)
        assert 1000 < int(count) < 1024
        assert why == "Resource temporarily unavailable"
    else:
        assert ended["exitCode"] == 137
        assert ended["message"].endswith(" processes; a container may have 1024")


def _top(kubectl: Kubectl, kind: str, name: str) -> str:
    try:
        return kubectl("top", kind, name, "--no-headers")
    except CommandFailed:  # not measured twice yet
        return ""


def test_a_container_sees_its_own_cgroup_and_cannot_change_it(limited: EmbeddedCluster, kubectl: Kubectl) -> None:
    script = "ls /sys/fs/cgroup; cat $(find /sys/fs/cgroup -name memory.limit_in_bytes -o -name memory.max)"
    escape = "for each in $(find /sys/fs/cgroup -name cgroup.procs) /sys/fs/cgroup/new; do echo 0 > $each; done"
    run(
        kubectl,
        "inside",
        ["sh", "-c", f"{script} </dev/null; {escape}; mount -t cgroup2; mount -t cgroup"],
        memory="64Mi",
    )
    kubectl.wait_for(
        lambda: kubectl.get("pod", "inside")["status"]["phase"], lambda phase: phase != "Pending", "its end"
    )
    said = kubectl.wait_for(lambda: kubectl("logs", "inside"), lambda text: "cgroup" in text, "its output").splitlines()
    refused = [line for line in said if line.startswith("sh: ")]
    assert len(refused) == (len(cgroups.V1) + 1 if limited.spec.limits == "cgroup-v1" else len(refused)) > 0
    assert not [line for line in said if "unified" in line]
    if by_cgroup(limited):
        assert str(64 << 20) in said
    else:
        assert said == refused


@pytest.mark.parametrize(
    ("name", "container", "volumes", "why"),
    [
        (
            "full",
            {"volumeMounts": [{"name": "data", "mountPath": "/tmp"}]},
            [{"name": "data", "emptyDir": {"sizeLimit": "5Mi"}}],
            'Usage of EmptyDir volume "data" exceeds the limit "5Mi". ',
        ),
        (
            "layer",
            {"resources": {"limits": {"ephemeral-storage": "5Mi"}}},
            [],
            "Pod ephemeral local storage usage exceeds the total limit of containers 5Mi. ",
        ),
    ],
)
def test_too_much_storage_is_evicted(
    kubectl: Kubectl, name: str, container: dict[str, object], volumes: list[object], why: str
) -> None:
    command = ["sh", "-c", "head -c 20M /dev/zero > /tmp/x; exec sleep 1000"]
    main = {"name": "main", "image": "python:3", "command": command, **container}
    kubectl("apply", "-f", "-", stdin=json.dumps(_pod(name, {"containers": [main], "volumes": volumes})))
    status = until(
        lambda: kubectl.get("pod", name)["status"],
        lambda found: found.get("reason") == "Evicted",
        what="the eviction",
        seconds=PATIENCE,
        interval=0.2,
    )
    assert status["message"] == why


@pytest.mark.alone
def test_figures_of_a_busy_container_are_served_and_its_quota_shows(limited: EmbeddedCluster, kubectl: Kubectl) -> None:
    kubectl.phase("busy", "Running")

    def figures() -> dict[str, float]:
        summary = json.loads(kubectl("get", "--raw", "/api/v1/nodes/a/proxy/stats/summary"))
        found = {pod["podRef"]["name"]: pod for pod in summary["pods"]}.get("busy", {}).get("containers", [{}])[0]
        seconds = found.get("cpu", {}).get("usageCoreNanoSeconds", 0) / 1e9
        cores = found.get("cpu", {}).get("usageNanoCores", 0) / 1e9
        return {"cores": cores, "seconds": seconds, "memory": found.get("memory", {}).get("workingSetBytes", 0)}

    seen = kubectl.wait_for(figures, lambda found: found["cores"] > 0 and found["seconds"] > 0.5, "figures")
    assert 48 << 20 < seen["memory"] < 128 << 20
    if by_cgroup(limited):
        assert seen["cores"] < 0.25
    page = kubectl("get", "--raw", "/api/v1/nodes/a/proxy/metrics/cadvisor")
    series = [line for line in page.splitlines() if 'container="main"' in line and 'pod="busy"' in line]
    for name in ("container_cpu_usage_seconds_total", "container_memory_working_set_bytes"):
        assert any(line.startswith(f"{name}{{") for line in series)
    assert 'container_network_receive_bytes_total{container="",' in page
    top = kubectl.wait_for(lambda: _top(kubectl, "pod", "busy"), bool, "kubectl top pod").split()
    assert top[0] == "busy"
    assert int(top[2].removesuffix("Mi")) >= 48
    node = kubectl.wait_for(lambda: _top(kubectl, "node", "a"), bool, "kubectl top node").split()
    assert int(node[1].removesuffix("m")) > 0
    assert int(node[3].removesuffix("Mi")) > 48
    kubectl("delete", "pod", "busy", "--wait=false")


def test_traits_say_what_is_not_enforced(limited: EmbeddedCluster) -> None:
    said = "limits and shares of processors" in limited.traits.not_enforced
    assert said == (not by_cgroup(limited))


@pytest.mark.skipif(kinds() == ["watch"], reason="no cgroups on this machine")
def test_no_cgroups_are_left_behind_not_even_by_a_killed_holder(launcher: Launcher) -> None:
    name = f"left-{os.getpid()}"  # the machine has one tree of cgroups, and other runs may have left theirs
    one = "nodes: [{name: a}]"
    cluster = launcher.start(name, text=one)
    kubectl = Kubectl(cluster)
    kubectl.wait_for(lambda: kubectl.get("sa"), bool, "the service account")
    run(kubectl, "inner", ["sleep", "1000"], memory="64Mi")
    kubectl.phase("inner", "Running")
    assert any(found.glob("a/pod*/*/cgroup.procs") for found in own_cgroups(name))
    os.kill(cluster.holder, signal.SIGKILL)
    until(lambda: state.is_held(name, launcher.env), lambda held: not held, what="the cluster's end", seconds=PATIENCE)
    assert own_cgroups(name) != []
    again = launcher.start(name, text=one)
    try:
        folders = cgroups.stored(again.kubeconfig.parent).folders.values()
        assert set(own_cgroups(name)) == set(map(Path, folders))
    finally:
        again.stop()
        cluster.stop()
    assert own_cgroups(name) == []


def test_cgroups_that_are_not_there_cannot_be_asked_for(launcher: Launcher) -> None:
    missing = [kind for kind in ("cgroup-v1", "cgroup-v2") if kind not in kinds()]
    with pytest.raises(SpecError, match=r"asks for limits: cgroup-v.*, but this machine gives no such cgroups"):
        launcher.start("none", text=f"nodes: [{{name: a}}]\nlimits: {missing[0]}\n")
    assert backend.find("none", launcher.env) is None
