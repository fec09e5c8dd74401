"""`gpulab up`, `prepare`, `down`, `status`, `kubeconfig`, `node`, `doctor`, kubectl and helm: clusters, without checks.

Place: `gpulab.py` adds these to its parser. Limits: clusters come from `clusters.backends`, whichever it is.
"""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from clusters import backends, spec
from clusters.api import Cluster, ClusterError, ClusterSpec, ElasticNodes, SpecError
from clusters.process import become, foreign_settings
from clusters.progress import Display
from commands.places import LABS, Commands, add_cluster_flags, add_command


def add(commands: Commands) -> None:
    """Adds them."""
    up = add_command(commands, "up", run_up, "start a cluster that keeps running")
    add_cluster_flags(up)
    up.add_argument("--lab", help="start the cluster that this lab describes, with its images prepared")
    up.add_argument("--images", type=Path, action="append", default=[], metavar="FILE", help=backends.OWN_IMAGES)
    up.add_argument("--port", type=int, default=0, help="port of the API server on 127.0.0.1 (default: a free one)")
    up.add_argument("--timings", action="store_true", help="say where the time of the start went")
    prepare = add_command(commands, "prepare", run_prepare, "make what clusters need, into the cache, and start none")
    prepare.add_argument("--lab", help="for the cluster that this lab describes, with its images")
    down = add_command(commands, "down", run_down, "end the running cluster and all that is in it")
    add_cluster_flags(down)
    status = add_command(commands, "status", run_status, "say whether a cluster runs, and what is in it")
    add_cluster_flags(status)
    kubeconfig = add_command(commands, "kubeconfig", run_kubeconfig, "print the path of the cluster's kubeconfig")
    add_cluster_flags(kubeconfig)
    _node_commands(add_command(commands, "node", lambda _: 0, "let nodes of the running cluster come and go"))
    doctor = add_command(commands, "doctor", run_doctor, "say what this machine has and lacks")
    doctor.set_defaults(cluster="embedded")


def _node_commands(node: argparse.ArgumentParser) -> None:
    """`gpulab node add|drain|lose|spot-notice|heal`."""
    commands = node.add_subparsers(title="commands", required=True, metavar="COMMAND")

    def command(
        name: str, act: Callable[[argparse.Namespace], None], done: str, *, text: str
    ) -> argparse.ArgumentParser:
        """One that acts on a node, and says then what it has `done`."""

        def run(options: argparse.Namespace) -> int:
            act(options)
            print(f"The node {options.node!r} {done.format(**vars(options))}")
            return 0

        found = add_command(commands, name, run, text)
        found.add_argument("node")
        add_cluster_flags(found)
        return found

    add = command("add", _add_node, "is Ready.", text="let a new node join")
    add.add_argument("--label", action="append", default=[], metavar="KEY=VALUE")
    add.add_argument("--taint", action="append", default=[], metavar="KEY=VALUE:EFFECT")
    add.add_argument("--gpus", metavar="MODEL:COUNT", help="as in NVIDIA-L4:2")
    add.add_argument("--spot", action="store_true", help="its capacity type is spot")
    drain = command(
        "drain",
        _drain,
        "is drained; `gpulab node heal {node}` takes the cordon away.",
        text="evict a node's pods as PodDisruptionBudgets allow, and keep new ones away",
    )
    drain.add_argument("--timeout", type=float, default=60, metavar="SECONDS", help="how long at most (default: 60)")
    command(
        "lose",
        lambda options: _nodes_of(options).lose(options.node),
        "is lost; `gpulab node heal {node}` brings it back.",
        text="kill all that runs on a node at once, without a word",
    )
    notice = command(
        "spot-notice",
        lambda options: _nodes_of(options).spot_notice(options.node, options.seconds),
        "has its notice and is lost in {seconds:g} s.",
        text="mark a node as providers of spot capacity do, and lose it later",
    )
    notice.add_argument("--seconds", type=float, default=120, help="until it is lost (default: 120, as on EC2)")
    command(
        "heal",
        lambda options: _nodes_of(options).heal(options.node),
        "is Ready.",
        text="bring a lost node back empty, take back a spot notice and a cordon",
    )


def _add_node(options: argparse.Namespace) -> None:
    wanted = spec.node(options.node, options.label, options.taint, options.gpus, spot=options.spot)
    _nodes_of(options).add_node(wanted)


def _drain(options: argparse.Namespace) -> None:
    nodes = _nodes_of(options)
    with Display(sys.stderr) as display:
        nodes.drain(options.node, seconds=options.timeout, progress=display)


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


def run_prepare(options: argparse.Namespace) -> int:
    """Fills the cache."""
    wanted, images = lab_cluster(options.lab) if options.lab else (spec.read(backends.DEFAULT_SPEC), ())
    with Display(sys.stderr) as display:
        backends.make("embedded", wanted, images, env=os.environ, progress=display)
    print("All is ready; `gpulab up` and `gpulab grade` start at once.")
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
