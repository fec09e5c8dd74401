"""Clusters that are started, found, refused, killed and ended; each time nothing may be left."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from clusters.api import ClusterError, ClusterLost, ClusterSpec, MachineError, NodeSpec, SpecError, StartError
from clusters.embedded import backend, state
from clusters.embedded.backend import EmbeddedCluster
from clusters.process import start_time
from clusters.wait import until
from tests.conftest import Kubectl, Launcher, command_of, everything_in, living, processes_with, silent
from tests.patience import PATIENCE

pytestmark = pytest.mark.cluster
ONE_NODE = ClusterSpec(nodes=(NodeSpec("only"),))


def state_of(launcher: Launcher, name: str) -> Path:
    return Path(launcher.env["XDG_STATE_HOME"]) / "gpulab" / "clusters" / name


def assert_nothing_left(launcher: Launcher, name: str) -> None:
    folder = state_of(launcher, name)
    until(lambda: processes_with(f"{folder}/"), lambda left: not left, what="the processes to end", seconds=PATIENCE)
    assert str(folder) not in Path("/proc/self/mounts").read_text()


def test_a_cluster_is_found_while_it_runs_and_gone_after(launcher: Launcher) -> None:
    devices = sorted(Path("/sys/class/net").iterdir())
    cluster = launcher.start("once")
    found = backend.find("once", launcher.env)
    assert found is not None
    assert found.kubeconfig == cluster.kubeconfig
    cluster.check()
    cluster.stop()
    assert backend.find("once", launcher.env) is None
    assert_nothing_left(launcher, "once")
    assert not state_of(launcher, "once").exists()
    assert sorted(Path("/sys/class/net").iterdir()) == devices
    cluster.stop()  # again is no error


def test_a_second_cluster_of_one_name_is_refused(launcher: Launcher, embedded: EmbeddedCluster) -> None:
    with pytest.raises(ClusterError) as caught:
        launcher.start(embedded.name)
    assert str(caught.value) == (
        "asked to start the cluster 'shared', but one of that name runs already or is just starting; "
        "use it, or end it with `gpulab down`"
    )
    embedded.check()


def test_a_port_that_is_taken_is_refused_before_anything_starts(launcher: Launcher) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SpecError) as caught:
            launcher.start("port", port=port)
    assert str(caught.value) == (
        f"asked for port {port} on 127.0.0.1 for the API server, but it cannot be had: Address already in use; "
        "choose another with --port, or leave it out to get a free one"
    )
    assert not state_of(launcher, "port").exists()


def test_a_killed_holder_takes_everything_with_it_and_its_state_is_cleared(launcher: Launcher) -> None:
    cluster = launcher.start("killed")
    kubectl = Kubectl(cluster)
    kubectl("run", "still", "--image=busybox", "--command", "--", "sleep", "600")
    kubectl.phase("still", "Running")
    everything = everything_in(state_of(launcher, "killed") / "cluster.json")
    assert any(b"600" in command_of(pid) for pid, _ in everything)
    os.kill(cluster.holder, signal.SIGKILL)
    until(lambda: start_time(cluster.holder), lambda born: born is None, what="the holder to end", seconds=PATIENCE)
    with pytest.raises(ClusterLost) as caught:
        cluster.check()
    assert str(caught.value) == "the cluster 'killed' has ended: its holder was killed"
    assert backend.find("killed", launcher.env) is None
    until(lambda: living(everything), lambda left: not left, what="every process to end", seconds=PATIENCE)
    assert_nothing_left(launcher, "killed")
    said: list[str] = []
    with state.lock(state_of(launcher, "killed")):
        state.clear_stale(state_of(launcher, "killed"), said.append)
    assert said == ["removing the state of a cluster 'killed' that was killed"]
    assert not state_of(launcher, "killed").exists()
    cluster.stop()  # what is gone already is no error


def test_ending_a_cluster_that_was_replaced_leaves_the_new_one_alone(launcher: Launcher) -> None:
    first = launcher.start("again")
    os.kill(first.holder, signal.SIGKILL)
    until(
        lambda: state.is_held("again", launcher.env),
        lambda held: not held,
        what="the lock to be free",
        seconds=PATIENCE,
    )
    try:
        second = launcher.start("again")
    finally:
        first.stop()  # also where there is no second: what was killed is a child that nobody else waits for
    second.check()
    assert second.kubeconfig.is_file()
    second.stop()


def test_state_that_a_container_made_read_only_is_removed(tmp_path: Path) -> None:
    locked = tmp_path / "state" / "volume"
    locked.mkdir(parents=True)
    (locked / "file").touch()
    locked.chmod(0o555)
    state.remove(tmp_path / "state")
    assert not (tmp_path / "state").exists()


def test_state_of_another_version_is_refused_by_name(launcher: Launcher) -> None:
    folder = state_of(launcher, "odd")
    folder.mkdir(parents=True)
    (folder / "cluster.json").write_text('{"version": 9}')
    with pytest.raises(MachineError) as caught:
        backend.find("odd", launcher.env)
    assert str(caught.value) == (
        f"the state of a cluster in {folder} cannot be read (Object missing required field `name`); "
        "end it with the version and the user that started it, or remove the folder"
    )


def test_interrupting_a_start_leaves_nothing(launcher: Launcher) -> None:
    def interrupt(text: str) -> None:
        if text.startswith("waiting for kube-apiserver"):
            raise KeyboardInterrupt

    launcher_state = state_of(launcher, "interrupted")
    with pytest.raises(KeyboardInterrupt):
        backend.start(
            "interrupted",
            ONE_NODE,
            programs=launcher.programs,
            images=launcher.images,
            env=launcher.env,
            progress=interrupt,
        )
    assert_nothing_left(launcher, "interrupted")
    assert not launcher_state.exists()


def test_a_start_that_fails_says_why_and_keeps_its_logs(launcher: Launcher, tmp_path: Path) -> None:
    programs = tmp_path / "programs"
    (programs / "bin").mkdir(parents=True)
    broken = programs / "bin" / "etcd"
    broken.write_text("#!/bin/sh\necho no disk today >&2\nexit 5\n")
    broken.chmod(0o755)
    with pytest.raises(StartError) as caught:
        backend.start("failed", ONE_NODE, programs=programs, images=launcher.images, env=launcher.env, progress=silent)
    log = state_of(launcher, "failed") / "logs" / "etcd.log"
    assert str(caught.value) == (
        f"the cluster did not start: etcd ended with status 5; its log {log} ends with\nno disk today"
    )
    kept = Path(launcher.env["XDG_STATE_HOME"]) / "gpulab" / "logs" / "failed"
    assert caught.value.__notes__ == [f"The logs of this start are in {kept}"]
    assert (kept / "logs" / "etcd.log").read_text() == "no disk today\n"
    assert not state_of(launcher, "failed").exists()


def test_a_cluster_dies_with_the_process_that_started_it(launcher: Launcher) -> None:
    code = (
        "import os, pathlib, sys\n"
        "from clusters.embedded import backend\n"
        "from clusters.api import ClusterSpec, NodeSpec\n"
        "backend.start('orphan', ClusterSpec(nodes=(NodeSpec('a'),)), programs=pathlib.Path(sys.argv[1]),"
        " images=pathlib.Path(sys.argv[2]), env=os.environ, progress=print)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    argv = [sys.executable, "-c", code, str(launcher.programs), str(launcher.images)]
    done = subprocess.run(argv, env=launcher.env, capture_output=True, timeout=PATIENCE, check=False)
    assert done.returncode == -signal.SIGKILL
    assert_nothing_left(launcher, "orphan")
    assert state.clear("orphan", launcher.env)  # its state, and its cgroups, which are in no namespace
    assert not state.clear("orphan", launcher.env)
