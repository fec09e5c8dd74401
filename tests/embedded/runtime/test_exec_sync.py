"""Commands in running containers, for the kubelet's probes and hooks: ExecSync of the Container Runtime Interface."""

import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.conftest import command_of, processes_with

pytestmark = pytest.mark.cluster
Node = Any  # the fixture `node` is conftest.Node; test modules cannot import from a conftest


def refusal(call: Callable[[], object]) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return caught.value.code(), caught.value.details()


def test_a_command_runs_in_the_container_with_its_rights(node: Node) -> None:
    container = node.start(
        node.pod("probed"), ["sleep", "1000"], envs=[{"key": "a.b", "value": b"c"}], working_dir="/tmp"
    )
    script = "pwd; hostname; id -u; grep -E '^(Cap(Eff|Bnd)|NoNewPrivs)' /proc/self/status; echo no >&2; exit 7"
    done = node.runtime.ExecSync(node.api.ExecSyncRequest(container_id=container, cmd=["sh", "-c", script]))
    shown = node.runtime.ExecSync(node.api.ExecSyncRequest(container_id=container, cmd=["env"])).stdout.decode()
    rows = done.stdout.decode().splitlines()
    assert (done.exit_code, done.stderr) == (7, b"no\n")
    assert {"a.b=c", "HOSTNAME=probed"} <= set(shown.splitlines())
    assert "SECRET_OF_THE_HOST" not in shown
    rights = ["CapEff:\t00000000a80425fb", "CapBnd:\t00000000a80425fb", "NoNewPrivs:\t1"]
    assert rows[-6:] == ["/tmp", "probed", "0", *rights]


def test_a_command_of_another_user_holds_no_capabilities(node: Node) -> None:
    security = {"run_as_user": {"value": 1000}}
    container = node.start(node.pod("probed-user"), ["sleep", "1000"], linux={"security_context": security})
    command = ["sh", "-c", "id -u; grep CapEff /proc/self/status"]
    done = node.runtime.ExecSync(node.api.ExecSyncRequest(container_id=container, cmd=command))
    assert done.stdout.split() == [b"1000", b"CapEff:", b"0000000000000000"]


def test_exec_tells_a_signal_and_a_missing_program(node: Node) -> None:
    container = node.start(node.pod("odd"), ["sleep", "1000"])
    codes = [
        node.runtime.ExecSync(node.api.ExecSyncRequest(container_id=container, cmd=command)).exit_code
        for command in (["sh", "-c", "kill -9 $$"], ["no-such-program"])
    ]
    assert codes == [137, 127]


def test_exec_keeps_no_more_output_than_the_kubelet_takes(node: Node) -> None:
    container = node.start(node.pod("loud"), ["sleep", "1000"])
    script = "head -c 17000000 /dev/zero; head -c 17000000 /dev/zero >&2; exit 3"
    done = node.runtime.ExecSync(node.api.ExecSyncRequest(container_id=container, cmd=["sh", "-c", script]))
    assert (len(done.stdout), len(done.stderr), done.exit_code) == (16 * 1024 * 1024 - 4096, 0, 3)


def test_exec_ends_after_its_time(node: Node) -> None:
    container = node.start(node.pod("slow"), ["sleep", "1000"])
    request = node.api.ExecSyncRequest(container_id=container, cmd=["sh", "-c", "sleep 987 & sleep 987"], timeout=1)
    said = "command 'sh -c sleep 987 & sleep 987' in the container was not done after 1 s"
    assert refusal(lambda: node.runtime.ExecSync(request)) == (grpc.StatusCode.DEADLINE_EXCEEDED, said)
    listed = node.api.ExecSyncRequest(container_id=container, cmd=["ps", "-eo", "args"])
    assert b"987" not in node.runtime.ExecSync(listed).stdout


def test_hundreds_of_commands_leave_nothing_behind(node: Node) -> None:
    container = node.start(node.pod("busy"), ["sleep", "1000"])
    request = node.api.ExecSyncRequest(container_id=container, cmd=["sh", "-c", "echo $0; exit 2"])
    held = Path(f"/proc/{_runtime(node)}/fd")

    def run(_: int) -> int:
        return int(node.runtime.ExecSync(request).exit_code)

    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(run, range(8))) == {2}
        before = len(list(held.iterdir()))
        assert set(pool.map(run, range(200))) == {2}
    assert len(list(held.iterdir())) <= before


def _runtime(node: Node) -> int:
    """Process id of the runtime; unshare and a shell around it have the same words."""
    found = processes_with(f"clusters.embedded.runtime.server\0{node.folder}/node.json")
    (runtime,) = [pid for pid in found if command_of(pid).startswith(sys.executable.encode())]
    return runtime


def test_exec_needs_a_container_that_runs(node: Node) -> None:
    container = node.create(node.pod("idle"), ["true"])
    request = node.api.ExecSyncRequest(container_id=container, cmd=["true"])
    said = f"container {container!r} does not run, so no command can be run in it"
    assert refusal(lambda: node.runtime.ExecSync(request)) == (grpc.StatusCode.FAILED_PRECONDITION, said)
