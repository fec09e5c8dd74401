"""The pods of a training, as Kubernetes knows them: who they are, how they ended, and what their kernel counted.

Place: `bench` holds one `Trainers` for the namespace. Limits: pods are found by the label of their release; a probe
runs in a pod's own container, with a program of its image, and reads what the kernel says. A container that ends, or
that ends or holds up such a program, is the learner's doing; a cluster that is slow shows in the lab's own pod, too.
"""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass

import kubernetes
import kubernetes.stream
import msgspec
import websocket

from clusters.wait import WaitTimeout, until
from ddp_lab.control import SERVICE
from ddp_lab.counted import ONCE, TWICE, Counted
from graders.api_server import API_ERRORS, answer_of
from graders.errors import GraderError, InfrastructureError, SubmissionError
from graders.pods import end_of_log

TROUBLE = (*API_ERRORS, websocket.WebSocketException, OSError)
CONTAINER = "trainer"
INDEX = "batch.kubernetes.io/job-completion-index"
RELEASE = "app.kubernetes.io/instance"
PYTHON = ("python3", "-I", "-c")
"""With nothing on its path that a training may have written."""
LOOKED_AFTER = 5.0
"""Seconds in which Kubernetes tells that a container has ended: its nodes look every second."""
COUNT_SECONDS = 20.0
"""In which a program that only looks has ended by far, also where processors are few."""
OWN_SECONDS = 5.0
"""In which such a program ends in the lab's own pod, or the cluster is slow."""

KILL_IN_A_SAVE = """
import os, signal, sys, time
def line(pid):
    try:
        return open(f"/proc/{pid}/cmdline").read()
    except OSError:
        return ""
def parent(pid):
    try:
        return open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[1]
    except OSError:
        return ""
def opened(pid):
    found = set()
    try:
        handles = os.listdir(f"/proc/{pid}/fd")
    except OSError:
        return found
    for handle in handles:
        try:
            path = os.readlink(f"/proc/{pid}/fd/{handle}")
        except OSError:
            continue
        if path.startswith("/checkpoints/"):
            found.add((handle, path))
    return found
pids = [each for each in os.listdir("/proc") if each.isdigit()]
launchers = {pid for pid in pids if "torch.distributed.run" in line(pid) or "torchrun" in line(pid)}
workers = [pid for pid in pids if parent(pid) in launchers and pid not in launchers] or [sys.argv[1]]
before = {pid: opened(pid) for pid in workers}
end = time.monotonic() + float(sys.argv[2])
saving = []
while time.monotonic() < end and not saving and any(os.path.exists(f"/proc/{pid}") for pid in workers):
    saving = [pid for pid in workers if opened(pid) - before[pid]]
    time.sleep(0.0005)
print("caught" if saving else "late", flush=True)  # before the container may end
for pid in workers if saving or sys.argv[3] == "anyway" else []:  # all, or another one could save in their place
    try:
        os.kill(int(pid), signal.SIGKILL)
    except ProcessLookupError:
        pass
"""
"""Kills the process that torchrun started once it has opened a file in the folder of checkpoints.

Arguments: the process to kill where torchrun is not found, seconds of patience, and "anyway" where it is to be killed
without a save as well.
"""


@dataclass(frozen=True)
class Trainer:
    """A pod of a run; `index` is its completion index, `gpus` what it holds of them."""

    run: str
    name: str
    uid: str
    ip: str
    node: str
    index: int
    phase: str
    gpus: int
    leaving: bool
    said: str
    """Its termination message, which is diagnosis.json."""
    host: str = ""
    """The IP address of its node, where exporters answer."""
    bare: bool = False
    """Whether its node has taken it and says that it has no sandbox, with a network, yet."""
    container: str = ""
    """The id of its container while this runs; another one after each start."""


@dataclass(frozen=True)
class Job:
    """How a run's Job stands: `ended` is "Complete", "Failed" or None, `why` its condition's message."""

    ended: str | None
    why: str


@dataclass(frozen=True)
class Running:
    """A program that runs in the container of a pod."""

    trainer: Trainer
    argv: tuple[str, ...]
    stream: kubernetes.stream.ws_client.WSClient


@dataclass(frozen=True)
class Counting:
    """A program that has counted what `begun` says, and waits to count again."""

    program: Running
    begun: Counted

    def close(self) -> None:
        """Leaves it, without another count."""
        self.program.stream.sock.shutdown()


class Trainers:
    """Reads and disturbs the pods of one namespace.

    Every method raises InfrastructureError where the cluster does not let it, and those that run a program in a pod
    SubmissionError where its container does not.
    """

    def __init__(self, client: kubernetes.client.ApiClient, namespace: str) -> None:
        self._core, self._batch = kubernetes.client.CoreV1Api(client), kubernetes.client.BatchV1Api(client)
        self._namespace = namespace
        self.seen: dict[str, Trainer] = {}
        """Every pod of any run that was ever looked at, by uid; as it was last."""
        self.addresses: dict[str, set[str]] = {}
        """Every address that a pod had when it was looked at, by uid: one whose node is lost has none in the end."""

    def of(self, run: str) -> list[Trainer]:
        """The pods of a run that are there."""
        try:
            pods = self._core.list_namespaced_pod(self._namespace, label_selector=f"{RELEASE}={run}").items
        except TROUBLE as error:
            raise InfrastructureError(f"the pods of {run} cannot be listed: {answer_of(error)}") from error
        found = [_trainer(pod) for pod in pods]
        self.seen.update({each.uid: each for each in found})
        for each in found:
            self.addresses.setdefault(each.uid, set()).update(filter(None, [each.ip]))
        return found

    def job(self, run: str) -> Job:
        """How its Job stands."""
        try:
            status = self._batch.read_namespaced_job(run, self._namespace).status
        except TROUBLE as error:
            raise InfrastructureError(f"the Job {run} cannot be read: {answer_of(error)}") from error
        for condition in status.conditions or []:
            if condition.status == "True" and condition.type in ("Complete", "Failed"):
                return Job(condition.type, condition.message or condition.reason or "")
        return Job(None, "")

    def end(self, run: str) -> None:
        """Deletes a run's Job with its pods, and returns once no pod of it is left."""
        try:
            self._batch.delete_namespaced_job(
                run, self._namespace, propagation_policy="Background", grace_period_seconds=0
            )
            self._core.delete_collection_namespaced_pod(
                self._namespace, label_selector=f"{RELEASE}={run}", grace_period_seconds=0
            )
        except TROUBLE as error:
            raise InfrastructureError(f"the Job {run} cannot be deleted: {answer_of(error)}") from error
        try:
            until(
                lambda: self.of(run), lambda left: not left, what=f"the pods of {run} to go", seconds=15, interval=0.1
            )
        except WaitTimeout as error:
            raise InfrastructureError(f"pods of {run} are still there 15 s after its Job was deleted") from error

    def begin_count(self, trainer: Trainer) -> "Counting":
        """Counts, and leaves a program in the pod's container that sleeps until `end_count`."""
        program = self._started(trainer, [*PYTHON, TWICE], stdin=True)
        with contextlib.ExitStack() as unless_it_counts:
            unless_it_counts.callback(program.stream.sock.shutdown)
            try:
                said = program.stream.readline_stdout(timeout=COUNT_SECONDS)
            except TROUBLE as error:
                raise self._ended_or(trainer, _not_run(trainer, error)) from error
            if not said and program.stream.is_open():
                raise self._held_up(program, COUNT_SECONDS, str(program.stream.read_all()))
            counting = Counting(program, self._read(trainer, said or str(program.stream.read_all())))
            unless_it_counts.pop_all()
        return counting

    def end_count(self, counting: "Counting") -> Counted:
        """Counts once more."""
        program = counting.program
        try:
            program.stream.write_stdin("\n")
        except TROUBLE as error:
            counting.close()
            raise self._ended_or(program.trainer, _not_run(program.trainer, error)) from error
        lines = self._said(program, COUNT_SECONDS).splitlines()
        return self._read(program.trainer, "\n".join(lines[1:]))

    def _read(self, trainer: Trainer, said: str) -> Counted:
        try:
            return msgspec.json.decode(said, type=Counted)
        except msgspec.DecodeError as error:
            raise self._ended_or(trainer, _disturbed(trainer, said)) from error

    def kill_in_a_save(self, processes: Sequence[tuple[Trainer, int]], *, patience: float) -> list[int]:
        """Kills each of these processes (pod, pid) that saves within so many seconds; returns the places of those."""
        programs = [
            self._started(trainer, [*PYTHON, KILL_IN_A_SAVE, str(pid), str(patience), ""]) for trainer, pid in processes
        ]
        killed = [self._killed(each, patience) for each in programs]
        return [place for place, was in enumerate(killed) if was]

    def kill(self, trainer: Trainer, pid: int) -> None:
        """Kills the process that torchrun started in a pod, whatever it does."""
        self._killed(self._started(trainer, [*PYTHON, KILL_IN_A_SAVE, str(pid), "0", "anyway"]), 0.0)

    def _killed(self, program: Running, patience: float) -> bool:
        said = self._said(program, patience + COUNT_SECONDS).strip()
        if said not in ("caught", "late"):
            raise self._ended_or(program.trainer, _disturbed(program.trainer, said))
        return said == "caught"

    def delete(self, trainer: Trainer) -> None:
        """Takes a pod away at once, without telling it."""
        try:
            self._core.delete_namespaced_pod(trainer.name, self._namespace, grace_period_seconds=0)
        except TROUBLE as error:
            raise InfrastructureError(f"the pod {trainer.name} cannot be deleted: {answer_of(error)}") from error

    def last_words(self, run: str) -> str:
        """The end of the log of its first pod that has one, for a person to read."""
        for trainer in self.of(run):
            try:
                log = end_of_log(self._core, trainer.name, self._namespace)
            except TROUBLE:
                continue
            if log:
                return f"; the log of {trainer.name} ends:\n{log}"
        return ""

    def execute(self, trainer: Trainer, argv: Sequence[str], *, seconds: float) -> str:
        """What a program printed that ran in a pod's container, both streams."""
        return self._said(self._started(trainer, argv), seconds)

    def _started(self, trainer: Trainer, argv: Sequence[str], *, stdin: bool = False) -> Running:
        try:
            return Running(trainer, tuple(argv), self._open(trainer.name, CONTAINER, argv, stdin=stdin))
        except TROUBLE as error:
            raise self._ended_or(trainer, _not_run(trainer, error)) from error

    def _open(
        self, pod: str, container: str, argv: Sequence[str], *, stdin: bool = False
    ) -> kubernetes.stream.ws_client.WSClient:
        return kubernetes.stream.stream(
            self._core.connect_get_namespaced_pod_exec,
            pod,
            self._namespace,
            container=container,
            command=list(argv),
            stdout=True,
            stderr=True,
            stdin=stdin,
            tty=False,
            _preload_content=False,
        )

    def _said(self, program: Running, seconds: float) -> str:
        trainer, stream = program.trainer, program.stream
        try:
            try:
                stream.run_forever(timeout=seconds)
                over = not stream.is_open()
                status = stream.read_channel(kubernetes.stream.ws_client.ERROR_CHANNEL)
                said = str(stream.read_all())
            finally:
                stream.sock.shutdown()  # its own close() leaves the socket open once the other side has closed
        except TROUBLE as error:
            raise self._ended_or(trainer, _not_run(trainer, error)) from error
        if not over:
            raise self._held_up(program, seconds, said)
        if not status:  # Kubernetes says in the end how a program ended, whichever way it did
            raise self._ended_or(trainer, _not_run(trainer, "the connection ended before the program did"))
        return said

    def _held_up(self, program: Running, seconds: float, said: str) -> GraderError:
        """What it means that a program was not done in time: its container's doing, or that the cluster is slow."""
        name = program.trainer.name
        why = f"a program in {name} was not done after {seconds:g} s: {said[-200:]!r}"
        if self._ends(name, CONTAINER, program.argv, seconds) or not self._own_ends():
            return InfrastructureError(why)
        return SubmissionError(
            f"{why}; it was not the second time either, while another was in the lab's own pod; leave processes alone "
            f"that the training did not start, and leave them some of what {name} may use"
        )

    def _own_ends(self) -> bool:
        """Whether a program that only looks ends in the pod of the data service as soon as it should."""
        try:
            pods = self._core.list_namespaced_pod(self._namespace, label_selector=f"{RELEASE}={SERVICE}").items
        except TROUBLE:
            return False
        return any(self._ends(pod.metadata.name, SERVICE, [*PYTHON, ONCE], OWN_SECONDS) for pod in pods)

    def _ends(self, pod: str, container: str, argv: Sequence[str], seconds: float) -> bool:
        """Whether a program ends there within so many seconds."""
        try:
            stream = self._open(pod, container, argv)
            try:
                stream.run_forever(timeout=seconds)
                return not stream.is_open()
            finally:
                stream.sock.shutdown()
        except TROUBLE:
            return False

    def _ended_or(self, trainer: Trainer, otherwise: GraderError) -> GraderError:
        """What it means that a program did not run as it should: that its container has ended, or else `otherwise`."""

        def look() -> str:
            return {each.uid: each for each in self.of(trainer.run)}.get(trainer.uid, trainer).container

        try:  # that it has ended is known some time after it has
            until(
                look,
                lambda now: not now or now != trainer.container,
                what=f"the container of {trainer.name} to end",
                seconds=LOOKED_AFTER,
                interval=0.2,
            )
        except WaitTimeout:
            return otherwise
        return SubmissionError(f"the container of {trainer.name} ended{self.last_words(trainer.run)}")


def _not_run(trainer: Trainer, why: object) -> InfrastructureError:
    return InfrastructureError(f"nothing can be run in {trainer.name}: {why}")


def _disturbed(trainer: Trainer, said: str) -> SubmissionError:
    return SubmissionError(
        f"a program that the lab ran in {trainer.name} did not end as it does there, but said {said[-200:]!r}; "
        "leave processes alone that the training did not start"
    )


def _lacks_sandbox(pod: kubernetes.client.V1Pod) -> bool:
    conditions = pod.status.conditions or []
    return any(each.type == "PodReadyToStartContainers" and each.status == "False" for each in conditions)


def _trainer(pod: kubernetes.client.V1Pod) -> Trainer:
    status = next((each for each in pod.status.container_statuses or [] if each.name == CONTAINER), None)
    ended = status and (status.state.terminated or (status.last_state and status.last_state.terminated))
    limits = pod.spec.containers[0].resources.limits or {}
    return Trainer(
        run=(pod.metadata.labels or {}).get(RELEASE, ""),
        name=pod.metadata.name,
        uid=pod.metadata.uid,
        ip=pod.status.pod_ip or "",
        node=pod.spec.node_name or "",
        index=int((pod.metadata.annotations or {}).get(INDEX, -1)),
        phase=pod.status.phase or "",
        gpus=int(limits.get("nvidia.com/gpu", 0)),
        leaving=pod.metadata.deletion_timestamp is not None,
        said=(ended.message or "") if ended else "",
        host=pod.status.host_ip or "",
        bare=pod.status.phase == "Pending" and pod.metadata.deletion_timestamp is None and _lacks_sandbox(pod),
        container=(status.container_id or "") if status and status.state.running else "",
    )
