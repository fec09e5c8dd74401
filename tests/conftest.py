"""Fixtures that several test modules share: what this machine can do, and one embedded cluster for all of a session."""

import json
import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from clusters import places, spec
from clusters.api import MachineError
from clusters.embedded import backend, build, doctor, prepare
from clusters.embedded.backend import EmbeddedCluster
from clusters.embedded.gpu import nvml
from clusters.embedded.gpu.devices import Device
from clusters.process import descendants, run, start_time
from clusters.progress import Display
from clusters.wait import until
from tests import turns
from tests.graders.tiny_lab import Session
from tests.patience import PATIENCE

# A busy machine is no failure of a property, a run repeats the one before, and nothing is written into the tree.
hypothesis.settings.register_profile("gpulab", deadline=None, derandomize=True, database=None)
hypothesis.settings.load_profile("gpulab")

# Where tests run in the background, Ctrl-C is ignored, and a program that a test starts would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

SPEC = """
nodes:
  - name: system
  - name: gpu-1
    gpus: {model: NVIDIA-L4, count: 2, source: simulated}
    taints: [{key: nvidia.com/gpu, value: present, effect: NoSchedule}]
    capacityType: spot
  - name: gpu-2
    gpus: {model: NVIDIA-L4, count: 2, source: simulated}
    taints: [{key: nvidia.com/gpu, value: present, effect: NoSchedule}]
"""


def pytest_configure(config: pytest.Config) -> None:
    """Has the workers of `make test` take turns."""
    turns.register(config)


def silent(_: str) -> None:
    """Progress that nobody reads."""


@pytest.fixture(scope="session")
def programs(pytestconfig: pytest.Config) -> Path:
    """Folder of the Kubernetes programs; built, with progress, when they are not cached, as a cluster's start would."""
    capture = pytestconfig.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled() if capture else nullcontext(), Display(sys.stderr) as display:
        return build.programs(places.cache(os.environ), os.environ, display)


@pytest.fixture(scope="session")
def helm(programs: Path) -> Path:
    """The helm program."""
    return programs / "bin" / "helm"


@pytest.fixture(scope="session")
def machine() -> None:
    """Skips when this machine cannot hold an embedded cluster, and says why."""
    try:
        doctor.require()
    except MachineError as error:
        pytest.skip(f"no embedded cluster on this machine: {error}")


@dataclass(frozen=True)
class Launcher:
    """Starts clusters whose state is in a folder of the test's own."""

    programs: Path
    images: Path
    env: dict[str, str]

    def start(self, name: str = "default", *, port: int = 0, text: str = SPEC) -> EmbeddedCluster:
        """A cluster of three nodes, or what the cluster.yaml in `text` says, that dies with this process."""
        file = Path(self.env["XDG_STATE_HOME"]) / "cluster.yaml"
        file.write_text(text)
        return backend.start(
            name,
            spec.read(file),
            programs=self.programs,
            images=self.images,
            env=self.env,
            progress=silent,
            port=port,
        )


@pytest.fixture(scope="session")
def launcher(machine: None, programs: Path, tmp_path_factory: pytest.TempPathFactory) -> Launcher:
    """Starts clusters of this session's own."""
    state = tmp_path_factory.mktemp("state")
    env = {**os.environ, "XDG_STATE_HOME": str(state)}
    images = prepare.prepare((), places.cache(os.environ), os.environ, silent)
    return Launcher(programs, images, env)


@pytest.fixture(scope="session")
def embedded(launcher: Launcher) -> Iterator[EmbeddedCluster]:
    """One running embedded cluster for all tests that leave it as they found it."""
    cluster = launcher.start("shared")
    yield cluster
    cluster.stop()


@pytest.fixture(scope="session")
def real_gpus() -> tuple[Device, ...]:
    """The machine's GPUs; skips where there are none."""
    found = nvml.find()
    if not found:
        pytest.skip("no NVIDIA GPU on this machine: NVML finds no driver or no device")
    return found


class Kubectl:
    """The cluster's own kubectl, and what tests do with it."""

    def __init__(self, cluster: EmbeddedCluster) -> None:
        self.argv = [str(cluster.programs / "kubectl"), f"--kubeconfig={cluster.kubeconfig}"]

    def __call__(self, *words: str, stdin: str = "") -> str:
        """Output of a kubectl command."""
        return run([*self.argv, *words], stdin=stdin, seconds=PATIENCE)

    def get(self, *words: str) -> Any:
        """An object, or a list's items."""
        found = json.loads(self("get", *words, "-o", "json"))
        return found.get("items", found)

    def wait_for(self, look: Callable[[], Any], done: Callable[[Any], bool], what: str) -> Any:
        """Polls until `done`."""
        return until(look, done, what=what, seconds=PATIENCE, interval=0.1)

    def phase(self, pod: str, wanted: str) -> Any:
        """The pod once it is in that phase."""
        return self.wait_for(
            lambda: self.get("pod", pod), lambda found: found["status"]["phase"] == wanted, f"{pod} to be {wanted}"
        )


@pytest.fixture(scope="session")
def kubectl(embedded: EmbeddedCluster) -> Kubectl:
    """kubectl on the shared cluster."""
    return Kubectl(embedded)


@pytest.fixture
def place(machine: None, programs: Path, tmp_path: Path) -> Iterator[Path]:
    """A folder for gradings; what they left behind is killed."""
    yield tmp_path
    for pid in processes_with(f"{tmp_path}/"):
        os.kill(pid, signal.SIGKILL)


def living(processes: Iterable[tuple[int, int | None]]) -> list[int]:
    """Which of these processes, named by id and start time, are still there."""
    return [pid for pid, born in processes if born is not None and start_time(pid) == born]


def everything_in(cluster_file: Path) -> list[tuple[int, int | None]]:
    """All processes of the cluster that a cluster.json names, containers too, by id and start time."""
    return [(pid, start_time(pid)) for pid in descendants(json.loads(cluster_file.read_text())["pid"])]


def command_of(pid: int) -> bytes:
    """The words of a process, each ended by a zero byte; nothing where it has ended, as any may at any moment."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


def processes_with(words: str) -> list[int]:
    """Process ids whose command line has these words, for proving that nothing is left."""
    running = [int(folder.name) for folder in Path("/proc").glob("[0-9]*")]
    return [pid for pid in running if words.encode() in command_of(pid)]


@pytest.fixture
def session(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Session:
    """The tiny lab, for modules that load the plugin pytester."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # importing other plugins anew takes most of a second
    return Session(pytester)
