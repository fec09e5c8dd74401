"""The pods of a training, as Kubernetes knows them: who they are, how they ended, and what their kernel counted.

Place: `bench` holds one `Trainers` for the namespace. Limits: pods are found by the label of their release; a probe
runs in a pod's own container, with a program of its image, and reads what the kernel says.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import kubernetes
import kubernetes.stream
import msgspec
import urllib3.exceptions

from graders.errors import InfrastructureError

TROUBLE = (kubernetes.client.ApiException, urllib3.exceptions.HTTPError, OSError)
CONTAINER = "trainer"
INDEX = "batch.kubernetes.io/job-completion-index"

PROBE = """
import glob, json, os
rows = [line.split() for line in open("/proc/net/dev") if line.strip().startswith("eth0:")]
ticks = 0
for path in glob.glob("/proc/[0-9]*/stat"):
    try:
        fields = open(path).read().rpartition(")")[2].split()
    except OSError:
        continue
    ticks += sum(map(int, fields[11:15]))
print(json.dumps({"sent": int(rows[0][9]), "cpu": ticks / os.sysconf("SC_CLK_TCK")}))
"""
"""Bytes that the pod sent on its network device, and processor seconds of its processes, ended children included."""

KILL_IN_A_SAVE = """
import os, signal, sys, time
def look():
    found = []
    for folder, _, names in os.walk("/checkpoints"):
        for name in names:
            try:
                found.append((name, os.stat(os.path.join(folder, name)).st_size))
            except OSError:
                pass
    return sorted(found)
pid, patience = int(sys.argv[1]), float(sys.argv[2])
before, end = look(), time.monotonic() + patience
while time.monotonic() < end and look() == before:
    time.sleep(0.0005)
caught = time.monotonic() < end
os.kill(pid, signal.SIGKILL)
print("caught" if caught else "late")
"""
"""Kills a process as soon as anything changes in the folder of checkpoints, or when patience ends."""


class Counted(msgspec.Struct, frozen=True):
    """What the kernel counted in a pod: bytes `sent` on its network device, seconds of `cpu`."""

    sent: int
    cpu: float


@dataclass(frozen=True)
class Trainer:
    """A pod of a run; `index` is its completion index, `gpus` what it holds of them."""

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


@dataclass(frozen=True)
class Job:
    """How a run's Job stands: `ended` is "Complete", "Failed" or None, `why` its condition's message."""

    ended: str | None
    why: str


class Trainers:
    """Reads and disturbs the pods of one namespace; every method raises InfrastructureError when it cannot."""

    def __init__(self, client: kubernetes.client.ApiClient, namespace: str) -> None:
        self._core, self._batch = kubernetes.client.CoreV1Api(client), kubernetes.client.BatchV1Api(client)
        self._namespace = namespace
        self.seen: dict[str, Trainer] = {}
        """Every pod of any run that was ever looked at, by uid; as it was last."""

    def of(self, run: str) -> list[Trainer]:
        """The pods of a run that are there."""
        try:
            pods = self._core.list_namespaced_pod(
                self._namespace, label_selector=f"app.kubernetes.io/instance={run}"
            ).items
        except TROUBLE as error:
            raise InfrastructureError(f"the pods of {run} cannot be listed: {error}") from error
        found = [_trainer(pod) for pod in pods]
        self.seen.update({each.uid: each for each in found})
        return found

    def job(self, run: str) -> Job:
        """How its Job stands."""
        try:
            status = self._batch.read_namespaced_job(run, self._namespace).status
        except TROUBLE as error:
            raise InfrastructureError(f"the Job {run} cannot be read: {error}") from error
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
                self._namespace, label_selector=f"app.kubernetes.io/instance={run}", grace_period_seconds=0
            )
        except TROUBLE as error:
            raise InfrastructureError(f"the Job {run} cannot be deleted: {error}") from error
        for _ in range(150):
            if not self.of(run):
                return
            time.sleep(0.1)
        raise InfrastructureError(f"pods of {run} are still there 15 s after its Job was deleted")

    def count(self, trainer: Trainer) -> Counted:
        """What the kernel counted in a pod so far."""
        said = self.execute(trainer, ["python3", "-c", PROBE], seconds=20)
        try:
            return msgspec.json.decode(said, type=Counted)
        except msgspec.DecodeError as error:
            raise InfrastructureError(
                f"{trainer.name} does not say what its kernel counted: {said[-200:]!r}"
            ) from error

    def kill_in_a_save(self, trainer: Trainer, pid: int, *, patience: float) -> bool:
        """Kills a process of a pod once a checkpoint is being written; whether one was, within so many seconds."""
        argv = ["python3", "-c", KILL_IN_A_SAVE, str(pid), str(patience)]
        said = self.execute(trainer, argv, seconds=patience + 20).strip()
        if said not in ("caught", "late"):
            raise InfrastructureError(f"the process {pid} of {trainer.name} could not be killed: {said[-200:]!r}")
        return said == "caught"

    def delete(self, trainer: Trainer) -> None:
        """Takes a pod away at once, without telling it."""
        try:
            self._core.delete_namespaced_pod(trainer.name, self._namespace, grace_period_seconds=0)
        except TROUBLE as error:
            raise InfrastructureError(f"the pod {trainer.name} cannot be deleted: {error}") from error

    def last_words(self, run: str) -> str:
        """The end of the log of its first pod that has one, for a person to read."""
        for trainer in self.of(run):
            try:
                log = self._core.read_namespaced_pod_log(trainer.name, self._namespace, tail_lines=8)
            except TROUBLE:
                continue
            if log.strip():
                return f"; the log of {trainer.name} ends:\n{log.strip()}"
        return ""

    def execute(self, trainer: Trainer, argv: Sequence[str], *, seconds: float) -> str:
        """What a program printed that ran in a pod's container, both streams."""
        try:
            stream = kubernetes.stream.stream(
                self._core.connect_get_namespaced_pod_exec,
                trainer.name,
                self._namespace,
                container=CONTAINER,
                command=list(argv),
                stdout=True,
                stderr=True,
                stdin=False,
                tty=False,
                _preload_content=False,
            )
            try:
                stream.run_forever(timeout=seconds)
                said, over = str(stream.read_all()), not stream.is_open()
            finally:
                stream.sock.shutdown()  # its own close() leaves the socket open once the other side has closed
        except TROUBLE as error:
            raise InfrastructureError(f"nothing can be run in {trainer.name}: {error}") from error
        if not over:
            raise InfrastructureError(f"a program in {trainer.name} was not done after {seconds:g} s: {said[-200:]!r}")
        return said


def _trainer(pod: kubernetes.client.V1Pod) -> Trainer:
    status = next((each for each in pod.status.container_statuses or [] if each.name == CONTAINER), None)
    ended = status and (status.state.terminated or (status.last_state and status.last_state.terminated))
    limits = pod.spec.containers[0].resources.limits or {}
    return Trainer(
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
    )
