"""The life of containers as a person sees it: how they end and why, what comes before and beside them, their logs."""

import json
import re
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.conftest import Kubectl
from tests.patience import PATIENCE

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("pods")]
GRACEFUL = "trap 'echo term; exit 0' TERM; echo ready; while :; do sleep 0.01; done"


def container(name: str, script: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "image": "busybox", "command": ["sh", "-c", script], **more}


def pod(name: str, *containers: dict[str, Any], **spec: Any) -> dict[str, Any]:
    body = {"restartPolicy": "Never", "terminationGracePeriodSeconds": 5, "containers": list(containers), **spec}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"test": "life"}}, "spec": body}


def program(name: str, *command: str, **more: Any) -> dict[str, Any]:
    return pod(name, {"name": "main", "image": "busybox", "command": list(command), **more})


HOOKS = {
    "postStart": {"exec": {"command": ["sh", "-c", "echo started > /tmp/hook"]}},
    "preStop": {"exec": {"command": ["sh", "-c", "echo stopping > /proc/2/fd/1"]}},
}
PODS = [
    program("unknown-program", "no-such-program"),
    program("unknown-path", "/no/such/program"),
    program("not-executable", "/etc/passwd"),
    program("new-folder", "sh", "-c", "pwd; exit 3", workingDir="/no/such/folder"),
    # $$$$ is the shell's $$: Kubernetes makes one of two.
    program("killed", "sh", "-c", "kill -9 $$$$"),
    pod(
        "ordered",
        container(
            "main",
            "cat /shared/steps; until [ -e /shared/sidecar ]; do sleep 0.01; done",
            volumeMounts=[{"name": "work", "mountPath": "/shared"}],
        ),
        initContainers=[
            container("first", "echo first >> /shared/steps", volumeMounts=[{"name": "work", "mountPath": "/shared"}]),
            container(
                "beside",
                "touch /shared/sidecar; " + GRACEFUL,
                restartPolicy="Always",
                volumeMounts=[{"name": "work", "mountPath": "/shared"}],
            ),
            container(
                "second", "echo second >> /shared/steps", volumeMounts=[{"name": "work", "mountPath": "/shared"}]
            ),
        ],
        volumes=[{"name": "work", "emptyDir": {}}],
    ),
    pod("init-fails", container("main", "true"), initContainers=[container("first", "exit 4")]),
    pod("hooked", container("main", GRACEFUL, lifecycle=HOOKS)),
    pod(
        "messages",
        container("written", "echo why > /dev/termination-log; exit 1"),
        container("elsewhere", "echo there > /tmp/why", terminationMessagePath="/tmp/why"),
        container("last-words", "echo one; echo two; exit 1", terminationMessagePolicy="FallbackToLogsOnError"),
        container("no-words", "echo one; exit 1"),
    ),
    pod("silent", container("main", "echo before; exec >&- 2>&-; sleep 1000")),
    pod("leaves-behind", container("main", "sleep 1000 & sleep 1000 & echo left; exit 0")),
    pod(
        "talks",
        container("main", "echo one; echo two; head -c 40000 /dev/zero | tr '\\0' x; echo; printf end; sleep 600"),
    ),
    pod("ignores", container("main", "trap '' TERM; echo ready; while :; do sleep 0.01; done")),
]


@pytest.fixture(scope="module")
def pods(kubectl: Kubectl) -> Iterator[None]:
    """All of them at once, so that they end while others are looked at."""
    kubectl("apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": PODS}))
    yield
    kubectl("delete", "pods", "-l", "test=life", "--wait=false", "--grace-period=0", "--force")


def states(found: Any, kind: str = "containerStatuses") -> dict[str, Any]:
    return {each["name"]: each["state"] for each in found["status"][kind]}


def ended(kubectl: Kubectl, name: str, phase: str = "Failed") -> dict[str, Any]:
    """How the containers of a pod ended, by name."""
    return {name: state["terminated"] for name, state in states(kubectl.phase(name, phase)).items()}


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("unknown-program", 'exec: "no-such-program": executable file not found in $PATH'),
        ("unknown-path", 'exec: "/no/such/program": stat /no/such/program: no such file or directory'),
        ("not-executable", 'exec: "/etc/passwd": permission denied'),
    ],
)
def test_a_program_that_cannot_be_run(kubectl: Kubectl, name: str, said: str) -> None:
    end = ended(kubectl, name)["main"]
    assert (end["exitCode"], end["reason"]) == (128, "StartError")
    assert said in end["message"]


def test_a_working_folder_that_is_not_there_is_made(kubectl: Kubectl) -> None:
    assert ended(kubectl, "new-folder")["main"]["exitCode"] == 3
    assert kubectl("logs", "new-folder") == "/no/such/folder\n"


def test_a_signal_is_told_by_the_exit_code(kubectl: Kubectl) -> None:
    end = ended(kubectl, "killed")["main"]
    assert (end["exitCode"], end["reason"]) == (137, "Error")


def test_init_containers_run_in_order_and_sidecars_beside(kubectl: Kubectl) -> None:
    found = kubectl.phase("ordered", "Succeeded")
    assert kubectl("logs", "ordered") == "first\nsecond\n"
    assert kubectl("logs", "ordered", "-c", "beside") == "ready\nterm\n"
    before = states(found, "initContainerStatuses")
    assert {name: state["terminated"]["reason"] for name, state in before.items()} == {
        "first": "Completed",
        "beside": "Completed",
        "second": "Completed",
    }


def test_a_failing_init_container_fails_the_pod(kubectl: Kubectl) -> None:
    found = kubectl.phase("init-fails", "Failed")
    assert states(found, "initContainerStatuses")["first"]["terminated"]["exitCode"] == 4
    assert states(found)["main"] == {"waiting": {"reason": "PodInitializing"}}


def test_hooks_run_after_the_start_and_before_the_stop_signal(kubectl: Kubectl) -> None:
    kubectl.phase("hooked", "Running")
    assert kubectl("exec", "hooked", "--", "cat", "/tmp/hook") == "started\n"
    following = subprocess.Popen([*kubectl.argv, "logs", "-f", "hooked"], stdout=subprocess.PIPE, bufsize=0)
    with following:
        assert following.stdout is not None
        assert following.stdout.readline() == b"ready\n"  # it follows before the container goes
        kubectl("delete", "pod", "hooked")
        last, *more = following.communicate(timeout=PATIENCE)[0].split(b"term\n")
    assert last == b"stopping\n"
    # The kubelet ends with its runtime's error where the container was removed before it looked whether it still runs.
    assert re.fullmatch(rb"(rpc error: code = NotFound desc = no container '\w+' on node '[\w-]+'\n?)?", b"".join(more))


def test_last_words(kubectl: Kubectl) -> None:
    ends = ended(kubectl, "messages")
    assert {name: end.get("message") for name, end in ends.items()} == {
        "written": "why\n",
        "elsewhere": "there\n",
        "last-words": "one\ntwo\n",
        "no-words": None,
    }


def test_a_container_may_close_its_output_and_live_on(kubectl: Kubectl) -> None:
    kubectl.phase("silent", "Running")
    assert kubectl("logs", "silent") == "before\n"
    assert "running" in states(kubectl.get("pod", "silent"))["main"]
    assert kubectl("exec", "silent", "--", "echo", "alive") == "alive\n"


def test_what_a_program_leaves_behind_ends_with_it(kubectl: Kubectl) -> None:
    assert ended(kubectl, "leaves-behind", "Succeeded")["main"]["exitCode"] == 0
    assert kubectl("logs", "leaves-behind") == "left\n"


def test_logs_can_be_cut_and_dated(kubectl: Kubectl) -> None:
    lines = kubectl.wait_for(
        lambda: kubectl("logs", "talks").splitlines(), lambda found: len(found) >= 3, "the container's words"
    )
    assert lines[:3] == ["one", "two", "x" * 40000]
    assert kubectl("logs", "talks", "--tail=1", "--limit-bytes=3") in {"xxx", "end"}
    assert len(kubectl("logs", "talks", "--timestamps").splitlines()[0].split()[0]) == len(
        "2026-01-01T00:00:00.000000000Z"
    )
    later = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 5))
    assert kubectl("logs", "talks", f"--since-time={later}") == ""
    assert kubectl("logs", "talks", "--since=1h").startswith("one\n")


def test_grace_period_zero_kills_at_once(kubectl: Kubectl) -> None:
    kubectl.phase("ignores", "Running")
    began = time.monotonic()
    kubectl("delete", "pod", "ignores", "--grace-period=1")
    assert time.monotonic() - began < 5
