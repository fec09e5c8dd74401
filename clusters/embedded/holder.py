"""The process that holds a cluster: the first one in the cluster's own namespaces, from whose death all else dies.

Place: backend.py starts it with the command line of job.py; there `main` runs as process 1 of a new PID namespace, with
a network and mount namespace of its own (and a user namespace when not root). It brings the cluster up, tells how far
it is on a pipe, carries connections from the host's 127.0.0.1 to the API server (door.py), and has its programs kept
running (supervisor.py). Limits: a program that cannot be kept ends the cluster, which says which one it was.

What etcd and kube-apiserver do not need is imported once they have been started.
"""

import contextlib
import os
import select
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import msgspec

from clusters.api import ClusterError
from clusters.embedded import control, controlplane, network, state
from clusters.embedded.job import Job, Report
from clusters.embedded.supervisor import Supervisor, record
from clusters.process import run
from clusters.wait import WaitTimeout, until

if TYPE_CHECKING:
    from clusters.embedded.fleet import Fleet

RUN = Path("/run/gpulab")
HIDDEN = ("/run", "/var/lib")

KUBELET_SETTINGS = {
    "kernel/keys/root_maxbytes": 25000000,
    "kernel/keys/root_maxkeys": 1000000,
    "kernel/panic": 10,
    "kernel/panic_on_oops": 1,
    "vm/overcommit_memory": 1,
    "vm/panic_on_oom": 0,
}
"""What a kubelet wants: k8s.io/component-helpers/node/util/sysctl and setupKernelTunables in its container manager."""


def main() -> NoReturn:
    """Holds the cluster that the file named on the command line describes."""
    job = msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=Job)
    woken, wake = _wake_on_signals()
    supervisor = Supervisor(partial(record, Path(job.state) / state.RESTARTS), wake=partial(_write, wake))

    def report(line: Report) -> None:
        try:
            os.write(job.report, msgspec.json.encode(line) + b"\n")
        except BrokenPipeError:
            sys.exit(1)  # who started this is gone before it was ready, so nobody would ever find it

    ready = False

    def say(text: str) -> None:
        if not ready:  # afterwards nobody listens any more
            report(Report(say=text))

    try:
        plane, fleet = _bring_up(job, supervisor, say)
        ready = True
        report(Report(ready=True))
        os.close(job.report)
        _await_record(Path(job.state))
        supervisor.keep()
        control.serve(Path(job.state), partial(fleet.handle, plane.api))
        plane.start_addons()
        _supervise(supervisor, woken)
    except (ClusterError, OSError) as error:
        state.tell_end(Path(job.state), str(error))
        if not ready:
            report(Report(error=str(error)))
    sys.exit(1)


def _await_record(state: Path) -> None:
    """Ends the cluster when who started it was killed before it wrote down how to find it."""
    with contextlib.suppress(WaitTimeout):
        until((state / "cluster.json").exists, bool, what="the cluster to be written down", seconds=5)
        return
    sys.exit(1)


def _bring_up(
    job: Job, supervisor: Supervisor, say: Callable[[str], None]
) -> "tuple[controlplane.ControlPlane, Fleet]":
    say("preparing mounts and the network")
    _mounts(job.keep)
    network.set_up(len(job.spec.nodes))
    say("making certificates")
    files = controlplane.files(Path(job.state), Path(job.programs))
    plane = controlplane.ControlPlane(files, supervisor, say)
    plane.start_store(job.spec.control_plane)
    from clusters.embedded import door
    from clusters.embedded.fleet import Fleet

    threading.Thread(target=door.keep, args=(job.door,), daemon=True).start()
    plane.kubeconfig(Path(job.state) / "kubeconfig", job.server, f"gpulab-{job.name}")
    say("starting the nodes")
    fleet = Fleet(job.spec, files, Path(job.images), RUN, job.limits, supervisor)
    fleet.begin()
    plane.wait_for_api()
    say("starting kube-proxy and CoreDNS")
    plane.start_network(job.spec.nodes[0].name)
    plane.start_controllers(job.spec.control_plane)
    plane.wait_until_ready([spec.name for spec in job.spec.nodes])
    return plane, fleet


def _mounts(keep: Sequence[str]) -> None:
    """Private /run and /var/lib; what the cluster needs from below the second (`keep`) stays in sight.

    An ordinary user may make no folder in /var/lib, where the path of the device plugins' socket is fixed.
    """
    # A home below /var/lib or a cache below /run is rare and real (build servers): they are mounted again on top.
    hidden = [path for path in keep if any(Path(path).resolve().is_relative_to(place) for place in HIDDEN)]
    kept = [(os.open(path, os.O_PATH | os.O_DIRECTORY), Path(path).resolve()) for path in hidden if Path(path).is_dir()]
    for place in HIDDEN:
        run(["mount", "-t", "tmpfs", "-o", "mode=755", "gpulab", place])
    for descriptor, path in kept:
        path.mkdir(parents=True, exist_ok=True)
        run(["mount", "--rbind", f"/proc/{os.getpid()}/fd/{descriptor}", str(path)])
        os.close(descriptor)
    RUN.mkdir(mode=0o700)
    _shield_kernel_settings()


def _shield_kernel_settings() -> None:
    """Keeps the machine's settings from the kubelets: those of the network are this namespace's own, the rest is not.

    A kubelet run by root writes KUBELET_SETTINGS unless it finds them so. The second, bare /proc is for the kernel's
    rule that a container may mount a /proc of its own only where it could see a whole one already.
    """
    for name in ("proc", "sys", "settings"):
        (RUN / name).mkdir()
    run(["mount", "-t", "proc", "proc", str(RUN / "proc")])
    # Containers see the devices of the cluster's network here, and none of the machine's cgroups.
    run(["mount", "-t", "sysfs", "sysfs", str(RUN / "sys")])
    # bubblewrap forbids user namespaces inside a container through its own user namespace's limit, in sys/user.
    for place, mode in (("/proc/sys", "ro"), ("/proc/sys/net", "rw"), ("/proc/sys/user", "rw")):
        run(["mount", "--bind", place, place])
        run(["mount", "-o", f"remount,bind,{mode}", place])
    for name, value in KUBELET_SETTINGS.items():
        shown = RUN / "settings" / name.replace("/", ".")
        shown.write_text(f"{value}\n")
        run(["mount", "--bind", str(shown), f"/proc/sys/{name}"])


def _wake_on_signals() -> tuple[int, int]:
    """A descriptor that becomes readable when a child ended or the other one was written to."""
    reading, writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    signal.set_wakeup_fd(writing)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    return reading, writing


def _write(wake: int) -> None:
    with contextlib.suppress(BlockingIOError):  # the pipe is full of wake-ups already
        os.write(wake, b"w")


def _supervise(supervisor: Supervisor, woken: int) -> NoReturn:
    """Keeps the programs, and reaps what else ends here, for process 1 inherits orphans."""
    while True:
        wait = supervisor.look()
        _reap(supervisor.pids())
        select.select([woken], [], [], wait)
        with contextlib.suppress(BlockingIOError):
            os.read(woken, 4096)


def _reap(ours: set[int]) -> None:
    while True:
        try:
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return
        if ended is None or ended.si_pid in ours:
            return
        os.waitpid(ended.si_pid, 0)


if __name__ == "__main__":
    main()
