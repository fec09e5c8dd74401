"""Makes the root folders of roots.toml from Debian packages, in the user's cache.

Place: `run.py`, before it starts a cluster. Limits: needs apt-get with its lists, and dpkg-deb; root's rights are not
needed, then all files belong to who made them. The packages' versions are those that the machine's lists have.
"""

import hashlib
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from clusters.api import MachineError, Progress
from clusters.process import CommandFailed, run

TABLE = Path(__file__).with_name("roots.toml")
_BINARIES = ("bin", "sbin", "usr/bin", "usr/sbin")
_ACCOUNTS = ("root:x:0:0:root:/root:/bin/sh", "nobody:x:65534:65534:nobody:/nonexistent:/bin/false")
_GROUPS = ("root:x:0:", "nogroup:x:65534:")
_UNUSED = ("doc", "info", "locale", "man")
_FOLDERS = {"dev": 0o755, "etc": 0o755, "home": 0o755, "proc": 0o755, "root": 0o700, "run": 0o755, "sys": 0o755}
_FOLDERS |= {"tmp": 0o1777, "usr/bin": 0o755, "usr/local/bin": 0o755, "var": 0o755, "var/tmp": 0o1777}


class Root(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One root folder; see roots.toml."""

    packages: tuple[str, ...]
    applets: bool = False
    links: dict[str, str] = {}
    folders: tuple[str, ...] = ()
    files: dict[str, str] = {}
    sources: dict[str, str] = {}
    accounts: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()


def make(cache: Path, version: str, sources: Callable[[], Path], progress: Progress) -> Path:
    """The folder with the root folders, by name; made now unless the cache has it.

    `sources` finds the folder of the sources of that version of Kubernetes.

    Raises:
        MachineError: the packages cannot be had here.
    """
    described = TABLE.read_bytes() + Path(__file__).read_bytes() + version.encode()
    digest = hashlib.sha256(described).hexdigest()[:16]
    ready = cache / f"roots-{digest}"
    if ready.is_dir():
        return ready
    partial = ready.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    for name, root in msgspec.toml.decode(TABLE.read_bytes(), type=dict[str, Root]).items():
        progress(f"fetching the Debian packages of the image {name}: {' '.join(root.packages)}")
        _fill(partial / name, root, _fetch(cache / "packages", root.packages))
        for path, source in root.sources.items():
            shutil.copy(sources() / "test" / "images" / source, partial / name / path[1:])
    return partial.rename(ready)


def _fetch(archives: Path, packages: Sequence[str]) -> list[Path]:
    """The files of some packages and of all that these depend on."""
    (archives / "partial").mkdir(parents=True, exist_ok=True)
    (archives / "none").touch()  # the state of a system on which nothing is installed
    apt = ["apt-get", "-qq", "-o", "Debug::NoLocking=1", "-o", "APT::Install-Recommends=0"]
    apt += ["-o", f"Dir::State::status={archives / 'none'}", "-o", f"Dir::Cache::archives={archives}"]
    apt += ["-o", "APT::Sandbox::User="]
    try:
        # Which files, is known only before they are there.
        run([*apt, "--download-only", "--yes", "install", *packages])
        listed = run([*apt, "-o", f"Dir::Cache::archives={archives / 'partial'}", "--print-uris", "install", *packages])
    except CommandFailed as error:
        raise MachineError(
            f"the Debian packages {', '.join(packages)} cannot be fetched: {error.output.strip()}\n"
            "The images of the conformance suite are made of them; let `apt-get update` work here, or point KUBECONFIG "
            "at a cluster with a container runtime"
        ) from error
    return [archives / line.split()[1] for line in listed.splitlines() if line.startswith("'")]


def _fill(root: Path, wanted: Root, packages: Sequence[Path]) -> None:
    root.mkdir()
    for name, mode in _FOLDERS.items():
        (root / name).mkdir(parents=True, exist_ok=True)
        (root / name).chmod(mode)
    for package in packages:
        run(["dpkg-deb", "--extract", str(package), str(root)])
    for name in _UNUSED:
        shutil.rmtree(root / "usr" / "share" / name, ignore_errors=True)
    # What the packages' own scripts would do on a system is done here.
    (root / "etc" / "passwd").write_text("".join(f"{line}\n" for line in (*_ACCOUNTS, *wanted.accounts)))
    (root / "etc" / "group").write_text("".join(f"{line}\n" for line in (*_GROUPS, *wanted.groups)))
    (root / "etc" / "nsswitch.conf").write_text("passwd: files\ngroup: files\nhosts: files dns\n")
    for path in wanted.folders:
        (root / path[1:]).mkdir(parents=True)
    for path, text in wanted.files.items():
        (root / path[1:]).parent.mkdir(parents=True, exist_ok=True)
        (root / path[1:]).write_text(text)
    if wanted.applets:
        _applets(root)
    for path, target in wanted.links.items():
        _link(root / path[1:], target)


def _applets(root: Path) -> None:
    busybox = next(root / folder / "busybox" for folder in _BINARIES if (root / folder / "busybox").is_file())
    for name in run([str(busybox), "--list"]).split():
        if not any((root / folder / name).is_symlink() or (root / folder / name).exists() for folder in _BINARIES):
            _link(root / "bin" / name, "busybox")


def _link(path: Path, target: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.symlink_to(target)
