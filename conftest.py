"""The wiring for pytest: the one place that knows clusters and graders.

Place: `pytest labs/NN_name` and `gpulab grade` come through here. It finds or launches the cluster that a lab needs,
gives each run a namespace of its own, and hands both to the grader's plugin and to the lab's checks as fixtures.
Limits: one cluster per session; it is started when a lab first asks for it, and ended if this session started it.
"""

import argparse
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import kubernetes
import msgspec
import pytest

from clusters import backends, spec, usage
from clusters.api import Charts, Cluster, ClusterError, ClusterSpec, Progress, SpecError
from clusters.helm import Helm, ValuesRefused
from clusters.process import foreign_settings
from clusters.progress import Display
from clusters.wait import WaitTimeout, until
from graders import signing, variants
from graders.api_server import API_ERRORS, answer_of
from graders.cluster_evidence import ClusterEvidence
from graders.errors import GraderError, InfrastructureError
from graders.exports import formats
from graders.flags import add_flags, words_to_grade
from graders.gpu_recorder import GpuRecorder
from graders.lab import Lab
from graders.machine import describe_machine
from graders.plugin import Plugin
from graders.provenance import harness_version
from graders.record import Record
from graders.redact import secrets_of
from graders.rubric import ClusterFacts, ErrorClasses, Left
from graders.submission import submission_folder
from graders.terms import Terms, terms_of

ROOT = Path(__file__).resolve().parent
CHARTS, LABS, RESULTS, WORK = ROOT / "charts", ROOT / "labs", ROOT / "results", ROOT / "work"
sys.path += [str(package.parent) for package in sorted(LABS.glob("*/*_lab"))]  # what a lab imports of its own
ERRORS: ErrorClasses = {
    ValuesRefused: "learner",
    SpecError: "harness",
    ClusterError: "infrastructure",
    **dict.fromkeys(API_ERRORS, "infrastructure"),
}
LEFT = "gpulab/left"
"""Label of a namespace that stays when its run has ended."""
_USE = pytest.StashKey["ClusterUse"]()
_DISPLAY = pytest.StashKey[Display]()


class ClusterUse:
    """The cluster of this session: found or launched once, ended at the end when this session launched it."""

    def __init__(
        self, backend: str, name: str | None, own_images: Sequence[Path], progress: Progress, *, keep: bool = False
    ) -> None:
        self._backend, self._asked, self._own_images, self._progress = backend, name, own_images, progress
        self.keep = keep
        self.cluster: Cluster | None = None
        self.ours, self._left = False, False

    def get(self, lab: Lab) -> Cluster:
        """The cluster to grade `lab` on."""
        if self.cluster is None:
            self.cluster = backends.find(self._backend, self._name, os.environ)
        if self.cluster is None:
            self.cluster = self._launch(spec.read(lab.folder / "cluster.yaml"), lab.needs.images)
            self.ours = True
        elif not self.cluster.shared and not self.ours:
            self.cluster = None
            raise InfrastructureError(
                "another grading of yours runs on its own cluster just now, and the two would disturb each other's "
                "figures; wait until it has ended"
            )
        elif self._own_images and not self.ours:
            raise SpecError(
                "asked to grade with images of your own (--images), but a cluster runs already, and takes them when it "
                "starts only; end it with `gpulab down`, or start it with them: gpulab up --images FILE"
            )
        else:
            backends.prepare(self.cluster, lab.needs.images, env=os.environ, progress=self._progress)
        _check_needs(self.cluster, lab)
        self._check_left(self.cluster)
        return self.cluster

    def _check_left(self, cluster: Cluster) -> None:
        """Raises where another run left something that would disturb this one's figures."""
        with _client(cluster) as client:
            found = kubernetes.client.CoreV1Api(client).list_namespace(label_selector=LEFT).items
        if found:
            name = found[0].metadata.name
            raise InfrastructureError(
                f"the namespace {name} of a grading with --keep is on this cluster, and its pods would take GPUs and "
                "processors from this one; when you have looked at it, remove it: "
                + self.typed(f"kubectl delete namespace {name}")
            )

    def _launch(self, wanted: ClusterSpec, images: tuple[str, ...]) -> Cluster:
        return backends.launch(
            self._backend,
            self._name,
            wanted,
            images,
            env=os.environ,
            progress=self._progress,
            own_images=self._own_images,
            detached=self.keep,
        )

    def leave(self, namespace: str) -> Left:
        """Notes that this namespace stays, and with it the cluster, if this session launched it."""
        self._left = True
        kubectl = f"{self.typed('kubectl')} --namespace {namespace}"
        remove = self.typed("down") if self.ours else self.typed(f"kubectl delete namespace {namespace}")
        return Left(namespace, kubectl, remove)

    def typed(self, words: str) -> str:
        """A command of `gpulab` on this cluster."""
        return backends.typed(words, self._name, os.environ)

    @property
    def _name(self) -> str:
        return backends.chosen_name(self._asked, os.environ)

    def check_alive(self) -> None:
        """Raises when the cluster that was in use has gone."""
        if self.cluster:
            self.cluster.check()

    def facts(self) -> ClusterFacts | None:
        """What a verdict says of the cluster."""
        if self.cluster is None:
            return None
        traits = self.cluster.traits
        simulated = ("GPUs",) if traits.gpus == "simulated" else ()
        return ClusterFacts(traits.level, simulated, msgspec.to_builtins(traits))

    def others(self) -> float | None:
        """Processor seconds that all other programs used so far; None where the cluster's cannot be told from them."""
        if self.cluster is None or not self.cluster.roots:
            return None
        return usage.other_seconds((os.getpid(), *self.cluster.roots))

    def end(self) -> None:
        """Ends the cluster if this session launched it and leaves nothing on it."""
        if self.cluster and self.ours and not self._left:
            self.cluster.stop()
        self.cluster = None


def pytest_addoption(parser: pytest.Parser) -> None:
    """The flags that grading adds to pytest."""
    group = parser.getgroup("gpulab", "GPU labs")
    group.addoption("--cluster", default="embedded", choices=backends.BACKENDS, help="cluster backend to grade on")
    group.addoption("--name", help=backends.NAME_HELP)
    group.addoption("--submission", type=Path, help="folder to grade (default: work/LAB, else the lab's starter)")
    group.addoption("--images", type=Path, action="append", default=[], metavar="FILE", help=backends.OWN_IMAGES)
    group.addoption("--export", action="append", default=[], metavar="FORMAT=FILE", help="write the run so as well")
    group.addoption("--sign", type=Path, metavar="KEY", help="private key that signs the run (or GPULAB_SIGNING_KEY)")
    group.addoption("--report", type=Path, metavar="FILE", help="write the run as one HTML page as well")
    group.addoption("--out", type=Path, default=RESULTS, help="folder for results (default: results/)")
    add_flags(group.addoption)


def pytest_configure(config: pytest.Config) -> None:
    """Registers the grader's plugin with what only this file knows."""
    _refuse_workers(config)
    for name in foreign_settings(os.environ):
        del os.environ[name]
    display = config.stash[_DISPLAY] = Display(sys.stderr)
    use = config.stash[_USE] = ClusterUse(
        config.option.cluster, config.option.name, config.option.images, _show(config), keep=config.option.keep
    )
    plugin = Plugin(
        labs=LABS,
        results=config.option.out.absolute(),
        submission=lambda lab: submission_folder(lab, explicit=config.option.submission, work=WORK, labs=LABS),
        machine=describe_machine(),
        version=harness_version(ROOT),
        errors=ERRORS,
        alive=use.check_alive,
        facts=use.facts,
        others=use.others,
        exports=_exports(config.option.export),
        secrets=secrets_of(os.environ),
        sign=_signer(config.option.sign or os.environ.get("GPULAB_SIGNING_KEY")),
        tiers=config.option.hints,
        terms=_terms(config.option),
        flags=_again(config.option),
        report=config.option.report and config.option.report.absolute(),
    )
    config.pluginmanager.register(plugin, "gpulab")
    config.add_cleanup(display.clear)
    config.add_cleanup(use.end)


def _refuse_workers(config: pytest.Config) -> None:
    """Raises where pytest-xdist would have several processes measure the checks of a lab, each a part of them."""
    if not getattr(config.option, "numprocesses", None):
        return
    folder = config.invocation_params.dir
    asked = [(folder / word.split("::")[0]).resolve() for word in config.args]
    if any(each.is_relative_to(LABS) or LABS.is_relative_to(each) for each in asked):
        raise pytest.UsageError(
            "asked to grade in several processes (--numprocesses), but the checks of a lab are measured one after the "
            "other, on one cluster; leave the flag out"
        )


def _terms(options: argparse.Namespace) -> Callable[[Lab], Terms]:
    """On what terms a lab is graded; nothing that is started from here on inherits the course's secret."""
    try:
        secret = variants.secret_from(options.course_secret_file, os.environ)
    except GraderError as error:
        raise pytest.UsageError(str(error)) from error
    os.environ.pop(variants.VARIABLE, None)
    results = options.out.absolute()
    return lambda lab: terms_of(lab, options, secret, now=datetime.now(UTC), results=results)


def _again(options: argparse.Namespace) -> list[str]:
    """The flags that grade the same in the same way again, without those that say what is usual or leave something."""
    words = words_to_grade(options) + ([f"--out={options.out}"] if options.out != RESULTS else [])
    return [word for word in words if word not in ("--cluster=embedded", "--hints=1", "--keep")]


def _exports(asked: Sequence[str]) -> list[tuple[str, Path]]:
    """What `--export` says, before anything is graded."""
    try:
        return [formats.wanted(each) for each in asked]
    except GraderError as error:
        raise pytest.UsageError(f"--export: {error}") from error


def _signer(key: Path | str | None) -> Callable[[bytes], bytes] | None:
    """Signs with the key that `--sign` or GPULAB_SIGNING_KEY names, which is read before anything is graded."""
    if not key:
        return None
    try:
        private = signing.private_key(Path(key))
    except GraderError as error:
        raise pytest.UsageError(f"--sign: {error}") from error
    return lambda manifest: signing.sign(private, manifest).encode()


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> None:
    """Has no warning be an error where a lab is graded; that is for the project's own tests."""
    if file_path.is_relative_to(LABS):
        parent.config.addinivalue_line("filterwarnings", "default")  # for all that is begun from here on
        warnings.simplefilter("default")  # for collecting, which has begun


@pytest.hookimpl(tryfirst=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Says where the time went, for what took a second or more."""
    display = config.stash[_DISPLAY]
    display.clear()
    spent = [f"{seconds:6.1f} s  {phase}" for phase, seconds in display.spent().items() if seconds >= 1]
    if spent:
        terminalreporter.section("where the time went")
        terminalreporter.write_line("\n".join(spent))


@pytest.fixture(scope="session")
def progress(pytestconfig: pytest.Config) -> Progress:
    """Shows what is being waited for."""
    return _show(pytestconfig)


@pytest.fixture(scope="module")
def cluster(pytestconfig: pytest.Config, lab: Lab) -> Cluster:
    """The cluster to grade on: the running one, else one that is started for this session."""
    return pytestconfig.stash[_USE].get(lab)


@pytest.fixture(scope="module")
def kube(cluster: Cluster) -> Iterator[kubernetes.client.ApiClient]:
    """The official Kubernetes client, as the cluster's administrator."""
    with _client(cluster) as client:
        yield client


@pytest.fixture(scope="module")
def namespace(
    pytestconfig: pytest.Config,
    kube: kubernetes.client.ApiClient,
    lab: Lab,
    record: Record,
    cluster: Cluster,
    progress: Progress,
    leave: Callable[[Left], None],
) -> Iterator[str]:
    """A fresh namespace for this run; unless it stays or the cluster ends anyway, it is removed and that waited for."""
    core = kubernetes.client.CoreV1Api(kube)
    use = pytestconfig.stash[_USE]
    labels = {"gpulab/lab": lab.name, **({LEFT: "true"} if use.keep else {})}
    metadata = kubernetes.client.V1ObjectMeta(generate_name=f"{lab.name.replace('_', '-')}-", labels=labels)
    name = core.create_namespace(kubernetes.client.V1Namespace(metadata=metadata)).metadata.name
    if use.keep:
        leave(use.leave(name))
    with (
        _client(cluster, retries=False) as impatient,
        ClusterEvidence(core, name, record),
        GpuRecorder(kubernetes.client.CoreV1Api(impatient), record),
    ):
        yield name
    if use.keep or use.ours:
        return
    with suppress(ClusterError):
        cluster.check()
        _remove(core, name, progress)


def _remove(core: kubernetes.client.CoreV1Api, name: str, progress: Progress) -> None:
    """Removes a run's namespace and waits until it is gone; what it cannot do it says, and no check answers for it."""
    progress(f"removing the namespace {name}")
    try:
        core.delete_namespace(name)
        with suppress(WaitTimeout):
            until(lambda: _exists(core, name), lambda there: not there, what="the namespace to go", seconds=60)
    except API_ERRORS as error:
        progress(f"the namespace {name} was not seen to go: {answer_of(error)}")


@dataclass(frozen=True)
class HelmCharts:
    """Installs charts from charts/ into this run's namespace; implements `clusters.api.Charts`."""

    helm: Helm
    namespace: str

    def install(self, release: str, chart: str, values: Mapping[str, object]) -> None:
        """Installs or upgrades a release; raises ValuesRefused or HelmFailed."""
        self.helm.install(release, CHARTS / chart, values, self.namespace)


@pytest.fixture(scope="module")
def charts(cluster: Cluster, namespace: str) -> Charts:
    """Helm for this run."""
    return HelmCharts(Helm(cluster.programs / "helm", cluster.kubeconfig), namespace)


def _client(cluster: Cluster, *, retries: bool | None = None) -> kubernetes.client.ApiClient:
    settings = kubernetes.client.Configuration()
    kubernetes.config.load_kube_config(str(cluster.kubeconfig), client_configuration=settings)
    settings.proxy = None  # a proxy of the user's must not see 127.0.0.1
    settings.retries = retries
    return kubernetes.client.ApiClient(settings)


def _exists(core: kubernetes.client.CoreV1Api, name: str) -> bool:
    try:
        core.read_namespace(name)
    except kubernetes.client.ApiException as error:
        if error.status == 404:
            return False
        raise
    return True


def _check_needs(cluster: Cluster, lab: Lab) -> None:
    """Matches what a lab needs with what the cluster has."""
    if cluster.traits.level not in lab.needs.levels:
        raise InfrastructureError(
            f"{lab.name} is graded at {', '.join(lab.needs.levels)}, and this cluster is {cluster.traits.level}"
        )
    with _client(cluster) as client:
        nodes = kubernetes.client.CoreV1Api(client).list_node().items
    gpus = sum(int(node.status.allocatable.get("nvidia.com/gpu", 0)) for node in nodes)
    if len(nodes) < lab.needs.nodes or gpus < lab.needs.gpus:
        raise InfrastructureError(
            f"{lab.name} needs {lab.needs.nodes} nodes and {lab.needs.gpus} GPUs, and the running cluster has "
            f"{len(nodes)} and {gpus}; `gpulab down`, then `gpulab up --lab {lab.name}` starts one that fits"
        )


def _show(config: pytest.Config) -> Callable[[str], None]:
    """Progress that goes round pytest's capture and stays out of its own lines."""
    display = config.stash[_DISPLAY]
    capture = config.pluginmanager.getplugin("capturemanager")

    def show(text: str) -> None:
        if capture is None:
            display(text)
            return
        with capture.global_and_fixture_disabled():
            display(text)

    return show
