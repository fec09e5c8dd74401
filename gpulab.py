"""The command line: `gpulab COMMAND`, the same wiring as conftest.py, for people.

Place: the console script. Limits: thin; clusters come from `clusters.backends`, grading is pytest on the lab's folder.
"""

import argparse
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from clusters import backends, spec
from clusters.api import Cluster, ClusterError, ClusterSpec, ElasticNodes, SpecError
from clusters.process import become, foreign_settings
from clusters.progress import Display

ROOT = Path(__file__).resolve().parent
LABS, RESULTS, WORK = ROOT / "labs", ROOT / "results", ROOT / "work"
FORMATS = "annotations, classroom, ctrf, gradebook, gradescope, junit, markdown, prairielearn, prometheus or summary"


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit status: 0 done, 1 not passed, 2 wrong use, 3 something broke."""
    words = list(sys.argv[1:] if argv is None else argv)
    if words[:1] in (["kubectl"], ["helm"]):  # their flags are theirs; argparse must not see them
        return _guarded(lambda: run_client(words[0], words[1:]))
    options = parser().parse_args(words)
    return _guarded(lambda: int(options.run(options) or 0))


def parser() -> argparse.ArgumentParser:
    """The commands and their flags."""
    top = argparse.ArgumentParser(
        prog="gpulab",
        description="GPU infrastructure labs, graded by measurement, on a Kubernetes cluster that needs no Docker.",
        epilog="`gpulab kubectl ...` and `gpulab helm ...` run the two clients against the running cluster; "
        "GPULAB_CLUSTER names one of several.",
    )
    commands = top.add_subparsers(title="commands", required=True, metavar="COMMAND")
    up = _command(commands, "up", run_up, "start a cluster that keeps running")
    _cluster_flag(up)
    up.add_argument("--lab", help="start the cluster that this lab describes, with its images prepared")
    up.add_argument("--images", type=Path, action="append", default=[], metavar="FILE", help=backends.OWN_IMAGES)
    up.add_argument("--port", type=int, default=0, help="port of the API server on 127.0.0.1 (default: a free one)")
    up.add_argument("--timings", action="store_true", help="say where the time of the start went")
    down = _command(commands, "down", run_down, "end the running cluster and all that is in it")
    _cluster_flag(down)
    status = _command(commands, "status", run_status, "say whether a cluster runs, and what is in it")
    _cluster_flag(status)
    kubeconfig = _command(commands, "kubeconfig", run_kubeconfig, "print the path of the cluster's kubeconfig")
    _cluster_flag(kubeconfig)
    _node_commands(_command(commands, "node", lambda _: 0, "let nodes of the running cluster come and go"))
    start = _command(commands, "start", run_start, "copy a lab's starter files to work/, to be edited")
    start.add_argument("lab")
    grade = _command(commands, "grade", run_grade, "grade a submission; exit status 0 only on full marks")
    grade.add_argument("lab")
    _cluster_flag(grade)
    grade.add_argument("--submission", type=Path, help="folder to grade (default: work/LAB, else the lab's starter)")
    grade.add_argument("--images", type=Path, action="append", default=[], metavar="FILE", help=backends.OWN_IMAGES)
    grade.add_argument("--out", type=Path, help="folder for results (default: results/)")
    grade.add_argument("--export", action="append", default=[], metavar="FORMAT=FILE", help=f"as well: {FORMATS}")
    export = _command(commands, "export", run_export, "write runs as course systems, CI or monitoring read them")
    export.add_argument("format", metavar="FORMAT", help=FORMATS)
    export.add_argument("runs", nargs="*", type=Path, metavar="RUN", help="folder (default: the newest in results/)")
    export.add_argument("--out", type=Path, metavar="FILE", help="file to write (default: standard output)")
    doctor = _command(commands, "doctor", run_doctor, "say what this machine has and lacks")
    doctor.set_defaults(cluster="embedded")
    return top


def _node_commands(node: argparse.ArgumentParser) -> None:
    """`gpulab node add|drain|lose|spot-notice|heal`."""
    commands = node.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for name, run, text in (
        ("add", run_node_add, "let a new node join"),
        ("drain", run_node_drain, "evict a node's pods as PodDisruptionBudgets allow, and keep new ones away"),
        ("lose", run_node_lose, "kill all that runs on a node at once, without a word"),
        ("spot-notice", run_node_spot_notice, "mark a node as providers of spot capacity do, and lose it later"),
        ("heal", run_node_heal, "bring a lost node back empty, take back a spot notice and a cordon"),
    ):
        command = _command(commands, name, run, text)
        command.add_argument("node")
        _cluster_flag(command)
    add, drain, notice = (commands.choices[name] for name in ("add", "drain", "spot-notice"))
    add.add_argument("--label", action="append", default=[], metavar="KEY=VALUE")
    add.add_argument("--taint", action="append", default=[], metavar="KEY=VALUE:EFFECT")
    add.add_argument("--gpus", metavar="MODEL:COUNT", help="as in NVIDIA-L4:2")
    add.add_argument("--spot", action="store_true", help="its capacity type is spot")
    drain.add_argument("--timeout", type=float, default=60, metavar="SECONDS", help="how long at most (default: 60)")
    notice.add_argument("--seconds", type=float, default=120, help="until it is lost (default: 120, as on EC2)")


def run_node_add(options: argparse.Namespace) -> int:
    """Adds a node."""
    wanted = spec.node(options.node, options.label, options.taint, options.gpus, spot=options.spot)
    _nodes_of(options).add_node(wanted)
    print(f"The node {options.node!r} is Ready.")
    return 0


def run_node_drain(options: argparse.Namespace) -> int:
    """Drains a node."""
    nodes = _nodes_of(options)
    with Display(sys.stderr) as display:
        nodes.drain(options.node, seconds=options.timeout, progress=display)
    print(f"The node {options.node!r} is drained; `gpulab node heal {options.node}` takes the cordon away.")
    return 0


def run_node_lose(options: argparse.Namespace) -> int:
    """Loses a node."""
    _nodes_of(options).lose(options.node)
    print(f"The node {options.node!r} is lost; `gpulab node heal {options.node}` brings it back.")
    return 0


def run_node_spot_notice(options: argparse.Namespace) -> int:
    """Gives a node its notice."""
    _nodes_of(options).spot_notice(options.node, options.seconds)
    print(f"The node {options.node!r} has its notice and is lost in {options.seconds:g} s.")
    return 0


def run_node_heal(options: argparse.Namespace) -> int:
    """Heals a node."""
    _nodes_of(options).heal(options.node)
    print(f"The node {options.node!r} is Ready.")
    return 0


def _nodes_of(options: argparse.Namespace) -> ElasticNodes:
    return backends.elastic(_running(options.cluster, options.name))


def run_up(options: argparse.Namespace) -> int:
    """Starts a cluster that outlives this command."""
    name = backends.chosen_name(options.name, os.environ)
    running = backends.find(options.cluster, name, os.environ)
    if running and not running.shared:
        raise ClusterError(
            f"asked to start the cluster {name!r}, but a grading of yours runs on one of that name just now; wait for "
            "its end, or choose another --name"
        )
    if running:
        raise ClusterError(
            f"asked to start the cluster {name!r}, but it runs already; use it (KUBECONFIG={running.kubeconfig}), end "
            f"it first with `{_down(name)}`, or choose another --name"
        )
    wanted, images = lab_cluster(options.lab) if options.lab else (spec.read(backends.DEFAULT_SPEC), ())
    with Display(sys.stderr) as display:
        cluster = backends.launch(
            options.cluster,
            name,
            wanted,
            images,
            env=os.environ,
            progress=display,
            own_images=options.images,
            port=options.port,
            detached=True,
        )
    if options.timings:
        print("   begun   took")
        print("\n".join(f"{begun:6.2f} s {took:4.2f} s  {phase}" for begun, took, phase in display.timeline()))
    print(f"The cluster {cluster.name!r} runs with {len(wanted.nodes)} nodes. For your own kubectl, helm or k9s:")
    print(f"  export KUBECONFIG={cluster.kubeconfig}")
    print(f"End it with `{_down(name)}`.")
    return 0


def run_down(options: argparse.Namespace) -> int:
    """Ends the running cluster."""
    name = backends.chosen_name(options.name, os.environ)
    cluster = backends.find(options.cluster, name, os.environ)
    if cluster is None and backends.is_held(options.cluster, name, os.environ):
        raise ClusterError(f"the cluster {name!r} is just starting; interrupt its start, or wait and ask again")
    if cluster is None:
        left = backends.clear(options.cluster, name, os.environ)
        print(
            f"No cluster {name!r} runs; what the last one left behind is removed."
            if left
            else f"No cluster {name!r} runs."
        )
        return 0
    cluster.stop()
    print(f"The cluster {cluster.name!r} has ended.")
    return 0


def run_status(options: argparse.Namespace) -> int:
    """Prints a cluster's traits, nodes and pods, or a line for each cluster; exit status 1 when none runs."""
    asked = options.name or os.environ.get("GPULAB_CLUSTER")
    names = [backends.chosen_name(asked, os.environ)] if asked else backends.names(options.cluster, os.environ)
    running = []
    for name in names:
        if cluster := backends.find(options.cluster, name, os.environ):
            running.append(cluster)
        elif ended := backends.last_end(options.cluster, name, os.environ):
            print(f"The last cluster {name!r} ended by itself: {ended}")
    for cluster in running:
        traits = cluster.traits
        print(f"cluster {cluster.name!r}: backend {traits.backend}, level {traits.level}, GPUs {traits.gpus}")
        print(f"  kubeconfig: {cluster.kubeconfig}")
        print(f"  users of containers: {traits.users}; not enforced or missing: {', '.join(traits.not_enforced)}")
        restarts = backends.restarts(cluster)
        print(f"  programs started again: {len(restarts) or 'none'}")
        print("".join(f"    {line}\n" for line in restarts[-10:]), end="")
    if not running:
        print(f"No cluster {asked!r} runs." if asked else "No cluster runs; `gpulab up` starts one.")
        return 1
    if len(running) > 1:
        print("For nodes and pods of one: gpulab status --name NAME")
        return 0
    sys.stdout.flush()
    return run_client("kubectl", ["get", "nodes,pods", "--all-namespaces"], running[0])


def run_kubeconfig(options: argparse.Namespace) -> int:
    """Prints where the kubeconfig is."""
    print(_running(options.cluster, options.name).kubeconfig)
    return 0


def run_start(options: argparse.Namespace) -> int:
    """Copies starter/ to work/LAB."""
    target = copy_starter(options.lab, WORK)
    lab = target.name
    print(f"Your files are in {target}. Read labs/{lab}/README.md, edit them, then: gpulab grade {lab}")
    return 0


def copy_starter(name: str, work: Path) -> Path:
    """Copies a lab's starter files to a folder of its name in `work`, and returns that folder.

    Raises:
        UnknownLab: there is no such lab.
        ClusterError: the folder is there already; what a learner wrote is never overwritten.
    """
    from graders.lab import Lab

    lab = Lab.find(LABS, name)
    target = work / lab.name
    if target.exists():
        raise ClusterError(f"{target} is there already; edit it, or move it away to start again")
    shutil.copytree(lab.folder / "starter", target)
    return target


def run_grade(options: argparse.Namespace) -> int:
    """Grades with pytest, as `pytest labs/LAB` does."""
    import pytest

    from graders.lab import Lab

    lab = Lab.find(LABS, options.lab)
    words = [str(lab.folder), f"--rootdir={ROOT}", f"--config-file={ROOT / 'pyproject.toml'}", "-p", "no:cacheprovider"]
    words += ["-q", "--no-header", "-rN"]  # the scorecard tells it all
    words.append(f"--cluster={options.cluster}")
    if options.name:
        words.append(f"--name={options.name}")
    if options.submission:
        words.append(f"--submission={options.submission}")
    words += [f"--images={file}" for file in options.images]
    if options.out:
        words.append(f"--out={options.out}")
    words += [f"--export={each}" for each in options.export]
    for name in ("PYTEST_ADDOPTS", "PYTEST_PLUGINS"):  # who sets these could have nothing graded and exit with 0
        os.environ.pop(name, None)
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    return int(pytest.main(words))


def run_export(options: argparse.Namespace) -> int:
    """Writes stored runs in another format."""
    from graders.exports import formats
    from graders.rubric import read_verdict

    stored = sorted((path.parent for path in RESULTS.glob("*/*/verdict.json")), key=lambda folder: folder.name)
    folders = options.runs or stored[-1:]
    runs = [(folder.name, read_verdict(folder / "verdict.json")) for folder in folders]
    if options.out:
        formats.write(options.format, options.out, runs)
    else:
        print(formats.export(options.format, runs), end="")
    return 0


def run_doctor(_: argparse.Namespace) -> int:
    """Prints what was found; exit status 1 when something is missing."""
    from clusters.embedded import doctor

    findings = [*doctor.machine(), *doctor.caches(os.environ)]
    print("\n".join(map(str, findings)))
    return 0 if all(finding.good for finding in findings) else 1


def run_client(name: str, words: Sequence[str], cluster: Cluster | None = None) -> int:
    """Becomes kubectl or helm, for a running cluster."""
    cluster = cluster or _running("embedded", None)
    env = {key: value for key, value in os.environ.items() if key not in foreign_settings(os.environ)}
    become([str(cluster.programs / name), *words], {**env, "KUBECONFIG": str(cluster.kubeconfig)})


def lab_cluster(name: str) -> tuple[ClusterSpec, tuple[str, ...]]:
    """The cluster that a lab describes, and the images it needs."""
    from graders.lab import Lab

    lab = Lab.find(LABS, name)
    return spec.read(lab.folder / "cluster.yaml"), lab.needs.images


def _running(backend: str, asked: str | None) -> Cluster:
    name = backends.chosen_name(asked, os.environ)
    cluster = backends.find(backend, name, os.environ)
    if cluster is None:
        others = [each for each in backends.names(backend, os.environ) if backends.find(backend, each, os.environ)]
        also = f"; running are: {', '.join(others)} (choose with --name or GPULAB_CLUSTER)" if others else ""
        raise SpecError(f"no cluster {name!r} runs; start one with `{_up(name)}`{also}")
    return cluster


def _up(name: str) -> str:
    return "gpulab up" if name == backends.DEFAULT_NAME else f"gpulab up --name {name}"


def _down(name: str) -> str:
    return "gpulab down" if name == backends.DEFAULT_NAME else f"gpulab down --name {name}"


def _command(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]",
    name: str,
    run: Callable[[argparse.Namespace], int],
    text: str,
) -> argparse.ArgumentParser:
    command = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
    command.set_defaults(run=run)
    return command


def _cluster_flag(command: argparse.ArgumentParser) -> None:
    command.add_argument("--cluster", default="embedded", choices=backends.BACKENDS, help="backend (default: embedded)")
    command.add_argument("--name", help=backends.NAME_HELP)


def _guarded(run: Callable[[], int]) -> int:
    """Turns what a person can act on into a sentence, and Ctrl-C into status 130."""
    from graders.errors import GraderError

    try:
        return run()
    except (ClusterError, GraderError) as error:
        print("\n".join([f"gpulab: {error}", *getattr(error, "__notes__", ())]), file=sys.stderr)
        return 2 if isinstance(error, SpecError | GraderError) else 3
    except OSError as error:
        print(f"gpulab: {error.filename or 'a file'}: {error.strerror}", file=sys.stderr)
        return 3
    except KeyboardInterrupt:
        print("gpulab: interrupted; what was started has been ended", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
