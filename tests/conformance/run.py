"""`make conformance`: runs the [Conformance] specs of Kubernetes' own suite, on an embedded cluster or on any other.

Place: `python -m tests.conformance.run`. It starts a cluster of two nodes with the suite's images (images.toml), unless
it is given a kubeconfig; runs the specs that may run side by side, then the serial ones; prints passed of total by SIG
and each failure. Limits: the built suite needs no network, its first build and its images do. Exit status 0 only when
all chosen specs passed.
"""

import argparse
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from clusters import places
from clusters.api import ClusterError, ClusterSpec, MachineError, NodeSpec, Progress, SpecError
from clusters.embedded import additions, backend, build, doctor, network, prepare
from clusters.embedded.backend import EmbeddedCluster
from clusters.process import CommandFailed, stream
from clusters.progress import Display
from tests.conformance import programs, roots, suite

IMAGES = Path(__file__).with_name("images.toml")
RESULTS = Path(__file__).parents[2] / "results" / "conformance"
SCRATCH = Path("/tmp/job-e2e")
"""A folder of the node's on which specs of Jobs insist; it is the machine's, and removed at the end."""
HOST_PATHS = ("/etc/hosts", str(SCRATCH))
"""What the suite mounts from its nodes."""
_DONE = re.compile(r"• (\[FAILED\]|\[\d)")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs what the command line asks for and returns the exit status: 0 all passed, 1 some failed, 3 it broke."""
    options = parser().parse_args(argv)
    folder = RESULTS / time.strftime("%Y%m%d-%H%M%S")
    folder.mkdir(parents=True)
    begun = time.monotonic()
    try:
        with Display(sys.stderr) as display:
            found = conformance(options, folder, os.environ, display)
    except ClusterError as error:
        print(f"conformance: {error}", file=sys.stderr)
        return 3
    except KeyboardInterrupt:
        print("conformance: interrupted; what was started has been ended", file=sys.stderr)
        return 130
    text = f"{suite.table(found)}\n\n{suite.failures(found)}".strip()
    (folder / "summary.md").write_text(f"{text}\n")
    print(f"{text}\n\n{(time.monotonic() - begun) / 60:.1f} minutes; reports are in {folder}")
    return 0 if found and all(result.passed for result in found) else 1


def parser() -> argparse.ArgumentParser:
    """The flags."""
    top = argparse.ArgumentParser(description="Kubernetes' own conformance specs.")
    top.add_argument("--kubeconfig", type=Path, help="cluster to test (default: an embedded one, started for this)")
    top.add_argument("--focus", action="append", default=[], help="regular expression: only specs whose name has it")
    top.add_argument("--skip", action="append", default=[], help="regular expression: no specs whose name has it")
    top.add_argument("--procs", type=int, default=8, help="specs at a time, of those that allow it (default: 8)")
    top.add_argument("--nodes", type=int, default=2, help="nodes of the embedded cluster (default: 2)")
    return top


@dataclass(frozen=True)
class Tested:
    """A cluster as the suite gets to it: `inside` goes before a command that shall run in its network."""

    kubeconfig: Path
    kubectl: Path
    inside: tuple[str, ...] = ()


def conformance(
    options: argparse.Namespace, folder: Path, env: Mapping[str, str], progress: Progress
) -> list[suite.Result]:
    """Runs the specs that the flags choose and returns what came of them; reports are in `folder`."""
    built, kubernetes = make(env, progress)
    with ExitStack() as stack:
        if options.kubeconfig:
            tested = Tested(options.kubeconfig.absolute(), kubernetes / "bin" / "kubectl")
        else:
            cluster = start(built, kubernetes, options.nodes, folder, env, progress)
            stack.callback(shutil.rmtree, SCRATCH, ignore_errors=True)
            stack.callback(cluster.stop)
            tested = seen_inside(cluster, folder)
        found = []
        for name, labels, procs in (("parallel", suite.PARALLEL, options.procs), ("serial", suite.SERIAL, 1)):
            report = folder / f"{name}.json"
            chosen = suite.command(
                built, labels=labels, focus=options.focus, skip=options.skip, procs=procs, report=report
            )
            found += specs(tested, chosen, report, env, progress)
    if not found:
        raise SpecError("no [Conformance] spec has a name that --focus and --skip leave; `--focus DNS` is an example")
    return found


def make(env: Mapping[str, str], progress: Progress) -> tuple[Path, Path]:
    """The folders of the suite's programs and of the cluster's, built unless the cache has them."""
    built = programs.programs(places.cache(env) / "conformance", env, progress)
    return built, build.programs(places.cache(env), env, progress)


def start(
    built: Path, kubernetes: Path, nodes: int, folder: Path, env: Mapping[str, str], progress: Progress
) -> EmbeddedCluster:
    """An embedded cluster with the suite's images; it dies with this process."""
    doctor.require()
    cache = places.cache(env)
    filled = IMAGES.read_text()
    own = cache / "conformance"
    made = roots.make(own, programs.version(), lambda: programs.sources(env, own), progress)
    known = {"bin": built, "kubernetes": kubernetes / "bin", "roots": made}
    for name, place in known.items():
        filled = filled.replace(f"{{{name}}}", str(place))
    (folder / "images.toml").write_text(filled)
    return backend.start(
        "conformance",
        ClusterSpec(tuple(NodeSpec(name=f"node-{number}") for number in range(1, nodes + 1)), HOST_PATHS),
        programs=kubernetes,
        images=prepare.prepare((), cache, env, progress),
        added=additions.read([folder / "images.toml"]),
        env=env,
        progress=progress,
    )


def seen_inside(cluster: EmbeddedCluster, folder: Path) -> Tested:
    """The cluster from inside its network, to which the host's 127.0.0.1 does not lead."""
    server = f"https://{network.API}:{network.API_PORT}"
    kubeconfig = folder / "kubeconfig"
    kubeconfig.touch(mode=0o600)
    kubeconfig.write_text(re.sub(r"https://127\.0\.0\.1:\d+", server, cluster.kubeconfig.read_text()))
    return Tested(kubeconfig, cluster.programs / "kubectl", tuple(cluster.enter([])))


def specs(
    tested: Tested, chosen: Sequence[str], report: Path, env: Mapping[str, str], progress: Progress
) -> list[suite.Result]:
    """Runs the specs of a command line from `suite.command` on a cluster; their output is beside the report.

    Raises:
        MachineError: the suite ended before it wrote its report.
    """
    argv = [*tested.inside, *chosen, *suite.flags(tested.kubeconfig, tested.kubectl, report.parent)]
    log = report.with_suffix(".log")
    passed = failed = 0

    def each(line: str) -> None:
        nonlocal passed, failed
        output.write(f"{line}\n")
        if match := _DONE.match(line):
            failed += match[1] == "[FAILED]"
            passed += match[1] != "[FAILED]"
            progress(f"running the {report.stem} specs: {passed} passed, {failed} failed")

    with (
        tempfile.TemporaryDirectory(prefix="gpulab-conformance-") as temporary,  # a spec leaves files there
        log.open("w") as output,
        suppress(CommandFailed),  # it fails when a spec does; the report tells which
    ):
        stream(argv, each, env={**env, "TMPDIR": temporary}, cwd=report.parent)
    if not report.is_file():
        raise MachineError(f"the suite ended before it wrote {report}; what it said is in {log}")
    return suite.results(report.read_bytes())


if __name__ == "__main__":
    sys.exit(main())
