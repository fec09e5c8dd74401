"""Builds Kubernetes' own end-to-end suite and the programs that its containers run, once per content of kubernetes/.

Place: `run.py` takes the folder that `programs` returns. Limits: needs the Go that the cluster's programs are built
with; the first build takes minutes, most of which the cluster's own build saves it through Go's cache.
"""

import fcntl
import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path

from clusters.api import MachineError, Progress
from clusters.embedded import build
from clusters.process import CommandFailed, run, stream

SOURCES = Path(__file__).with_name("kubernetes")
SUITE = "e2e.test"
PACKAGES = {
    "ginkgo": "github.com/onsi/ginkgo/v2/ginkgo",
    "agnhost": "k8s.io/kubernetes/test/images/agnhost",
    "nonewprivs": "k8s.io/kubernetes/test/images/nonewprivs",
    "sample-apiserver": "k8s.io/sample-apiserver",
    SUITE: "k8s.io/kubernetes/test/e2e",
}


def ready(cache: Path) -> Path | None:
    """The folder with the programs if the cache has it."""
    folder = cache / f"programs-{digest()}"
    return folder if folder.is_dir() else None


def programs(cache: Path, env: Mapping[str, str], progress: Progress) -> Path:
    """The folder with the programs, built now unless the cache has it.

    Raises:
        MachineError: no Go toolchain can be had, or the build failed.
    """
    cache.mkdir(parents=True, exist_ok=True)
    folder = cache / f"programs-{digest()}"
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.is_dir():
            _build(folder, env, progress)
    return folder


def version() -> str:
    """The version of Kubernetes that is pinned, as in v1.37.1."""
    return build.versions((SOURCES / "go.mod").read_text())["k8s.io/kubernetes"]


def sources(env: Mapping[str, str], cache: Path) -> Path:
    """Folder of the pinned Kubernetes' sources, for the files of some images.

    Raises:
        MachineError: it cannot be had.
    """
    go = build.find_go(_tools(cache), env, lambda _: None)
    argv = [go, "mod", "download", "-json", "k8s.io/kubernetes"]
    try:
        return Path(json.loads(run(argv, cwd=SOURCES, env=_go_env(env)))["Dir"])
    except CommandFailed as error:
        raise MachineError(f"Kubernetes' sources cannot be had: {error.output.strip()}") from error


def digest() -> str:
    """Sixteen hex digits that change with what is built and how."""
    total = hashlib.sha256()
    for path in (*sorted(SOURCES.iterdir()), Path(__file__)):
        total.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return total.hexdigest()[:16]


def _tools(cache: Path) -> Path:
    """Where the build of the cluster's programs keeps a Go of its own."""
    return cache.with_name("kubernetes")


def _go_env(env: Mapping[str, str]) -> dict[str, str]:
    own = {"CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOFLAGS": "", "GOWORK": "off", "GOOS": "", "GOARCH": ""}
    return {**env, **own}


def _build(folder: Path, env: Mapping[str, str], progress: Progress) -> None:
    partial = folder.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    go = build.find_go(_tools(folder.parent), env, progress)
    major, minor = version().removeprefix("v").split(".")[:2]
    stamps = {"gitVersion": version(), "gitMajor": major, "gitMinor": minor}
    stamp = "-s -w" + "".join(f" -X k8s.io/component-base/version.{name}={text}" for name, text in stamps.items())
    for name, package in PACKAGES.items():
        verb = ["test", "-c", "-vet=off"] if name == SUITE else ["build"]  # vet would take minutes over others' code
        compiled = 0

        def built(line: str, name: str = name) -> None:
            nonlocal compiled
            compiled += " " not in line
            progress(f"building {name} of the conformance suite: {compiled} packages, now {line.split()[-1]}")

        argv = [go, *verb, "-v", "-trimpath", "-buildvcs=false", "-ldflags", stamp, "-o", str(partial / name), package]
        try:
            progress(f"building {name} of the conformance suite")
            stream(argv, built, cwd=SOURCES, env=_go_env(env))
        except CommandFailed as error:
            shutil.rmtree(partial, ignore_errors=True)
            raise MachineError(
                f"{name} of the conformance suite could not be built: {error.output.strip()[-2000:]}\n"
                "The build needs the Go module proxy; run the command again, finished parts are kept"
            ) from error
    partial.rename(folder)
