"""The table of backends: by the name that `--cluster` takes, how to find or launch a cluster.

Place: `conftest.py` and `commands` come through here; a backend is imported when it is asked for. Limits: `embedded`
is the only one so far.
"""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from clusters import places
from clusters.api import DNS_LABEL, Cluster, ClusterError, ClusterSpec, ElasticNodes, Progress, SpecError

BACKENDS = ("embedded",)
DEFAULT_NAME = "default"
NAME_HELP = "name of the cluster (default: GPULAB_CLUSTER, else `default`)"
OWN_IMAGES = "TOML file that maps image references to a root folder or to programs of this machine; may be repeated"
DEFAULT_SPEC = Path(__file__).with_name("default.yaml")


def chosen_name(asked: str | None, env: Mapping[str, str]) -> str:
    """The cluster's name: what was asked, else GPULAB_CLUSTER, else the default.

    Raises:
        SpecError: it is no DNS label (RFC 1123).
    """
    name = asked if asked is not None else env.get("GPULAB_CLUSTER") or DEFAULT_NAME
    if not DNS_LABEL.fullmatch(name):
        raise SpecError(f"asked for a cluster named {name!r}; use small letters, digits and dashes, 63 at most")
    return name


def typed(words: str, name: str, env: Mapping[str, str]) -> str:
    """How `gpulab WORDS` is typed so that it reaches the cluster of that name."""
    plain = name == DEFAULT_NAME and env.get("GPULAB_CLUSTER") in (None, "", name)
    return f"gpulab {words}" if plain else f"GPULAB_CLUSTER={name} gpulab {words}"


def names(backend: str, env: Mapping[str, str]) -> list[str]:
    """The names of this user's clusters that run or ended by themselves, sorted."""
    _known(backend)
    from clusters.embedded import state

    return state.names(env)


def find(backend: str, name: str, env: Mapping[str, str]) -> Cluster | None:
    """The running cluster of that name, or None.

    Raises:
        SpecError: there is no such backend.
    """
    _known(backend)
    from clusters.embedded import backend as embedded

    return embedded.find(name, env)


def is_held(backend: str, name: str, env: Mapping[str, str]) -> bool:
    """Whether a cluster of that name runs, or is just starting or ending."""
    _known(backend)
    from clusters.embedded import state

    return state.is_held(name, env)


def last_end(backend: str, name: str, env: Mapping[str, str]) -> str | None:
    """Why the last cluster of that name ended by itself, or None."""
    _known(backend)
    from clusters.embedded import state

    return state.last_end(name, env)


def clear(backend: str, name: str, env: Mapping[str, str]) -> bool:
    """Removes what a cluster of that name left behind that ended by itself or was killed; whether there was anything.

    Raises:
        ClusterError: one runs, or is just starting or ending.
    """
    _known(backend)
    from clusters.embedded import state

    return state.clear(name, env)


def launch(
    backend: str,
    name: str,
    spec: ClusterSpec,
    images: Sequence[str],
    *,
    env: Mapping[str, str],
    progress: Progress,
    own_images: Sequence[Path] = (),
    port: int = 0,
    detached: bool = False,
) -> Cluster:
    """Makes what a cluster needs (programs, `images`), starts it and returns once it is ready.

    Args:
        backend: one of BACKENDS.
        name: the cluster's name.
        spec: its nodes.
        images: references of images that will be asked for.
        env: environment variables.
        progress: told what is waited for.
        own_images: TOML files of images that the user adds, see additions.py; those in the state folder count too.
        port: TCP port of the API server on 127.0.0.1; 0 takes a free one.
        detached: the cluster outlives this process.

    Raises:
        ClusterError: as the backend's `start`.
    """
    _known(backend)
    from clusters.embedded import additions, checks, doctor
    from clusters.embedded import backend as embedded

    checks.check(spec, port)
    added = additions.read([*own_images, *additions.in_folder(places.own_images(env))])
    doctor.require()
    programs, list_file = _made(spec, additions.others(images, added), env, progress)
    return embedded.start(
        name,
        spec,
        programs=programs,
        images=list_file,
        added=added,
        env=env,
        progress=progress,
        port=port,
        detached=detached,
    )


def make(backend: str, spec: ClusterSpec, images: Sequence[str], *, env: Mapping[str, str], progress: Progress) -> None:
    """Makes what a cluster needs, into the cache, and starts nothing: where a machine's image or its cache is filled.

    Raises:
        MachineError: a program or an image cannot be made here.
    """
    _known(backend)
    _made(spec, images, env, progress)


def prepare(cluster: Cluster, images: Sequence[str], *, env: Mapping[str, str], progress: Progress) -> None:
    """Makes `images` available to a cluster that runs already.

    Raises:
        MachineError: an image cannot be made here.
        ClusterError: the cluster knows images of another version of the catalogue only.
    """
    from clusters.embedded import additions
    from clusters.embedded import prepare as images_of
    from clusters.embedded.backend import EmbeddedCluster

    assert isinstance(cluster, EmbeddedCluster)  # the only backend so far

    machine = images_of.Machine(gpus=lambda: cluster.traits.gpus == "real")
    wanted = additions.others(images, cluster.added_images)
    made = images_of.prepare(wanted, places.cache(env), env, progress, machine=machine)
    if made != cluster.images:
        raise ClusterError(
            f"the running cluster {cluster.name!r} was started with another list of images; end it with `gpulab down` "
            "and start it again"
        )


def restarts(cluster: Cluster) -> list[str]:
    """A line for each program of the cluster that was killed or failed, and was started again."""
    from clusters.embedded.backend import EmbeddedCluster

    assert isinstance(cluster, EmbeddedCluster)  # the only backend so far
    return [
        f"{time.strftime('%H:%M:%S', time.localtime(each.at))} {each.name} ended with status {each.status}"
        for each in cluster.restarts()
    ]


def elastic(cluster: Cluster) -> ElasticNodes:
    """The cluster, if its nodes come and go when told to.

    Raises:
        SpecError: they do not.
    """
    if isinstance(cluster, ElasticNodes):
        return cluster
    raise SpecError(f"the nodes of the cluster {cluster.name!r} cannot be changed; the embedded cluster's can")


def _made(spec: ClusterSpec, images: Sequence[str], env: Mapping[str, str], progress: Progress) -> tuple[Path, Path]:
    """The folder of programs and the list of images, made where they were not yet."""
    from clusters.embedded import backend as embedded
    from clusters.embedded import build, prepare

    cache = places.cache(env)
    programs = build.programs(cache, env, progress)
    machine = prepare.Machine(gpus=lambda: embedded.traits(spec).gpus == "real")
    return programs, prepare.prepare(images, cache, env, progress, machine=machine)


def _known(backend: str) -> None:
    if backend not in BACKENDS:
        raise SpecError(f"asked for the cluster backend {backend!r}; this version has {', '.join(BACKENDS)}")
