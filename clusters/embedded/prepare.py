"""Makes the environments that stand in for images, outside the cluster and before it needs them.

Place: `clusters.backends` calls `prepare` before a cluster starts, and while one runs when a lab needs more images.
Limits: environments of Python packages, from locks; they stay where they were made, for they hold absolute paths.

A folder counts once its marker is there, which is written last. Whoever makes one holds a lock beside it, and removes
what an earlier attempt without a marker left.
"""

import errno
import fcntl
import json
import os
import platform
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pynvml

from clusters.api import MachineError, Progress, SpecError
from clusters.embedded import catalogue
from clusters.embedded.catalogue import Listing, Recipe
from clusters.embedded.runtime.images import Bind, Entry, Image
from clusters.process import Child, CommandFailed, run, tail

_MARKER = "complete.json"
_GB = 1e9
_FULL_GB = 0.05  # less free space than this is none
_BASE = "import json, sys; print(json.dumps([sys.base_prefix, sys.base_exec_prefix]))"


def count_gpus() -> int:
    """NVIDIA GPUs that NVML finds; 0 where there is no driver."""
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return 0
    try:
        return int(pynvml.nvmlDeviceGetCount())
    finally:
        pynvml.nvmlShutdown()


def find_uv(env: Mapping[str, str]) -> str:
    """The uv of the harness's own environment, else the one on PATH."""
    own = Path(sys.executable).with_name("uv")
    return str(own) if own.is_file() else shutil.which("uv", path=env.get("PATH")) or "uv"


@dataclass(frozen=True)
class Machine:
    """What is asked of the machine; tests have one of their own."""

    uv: Callable[[Mapping[str, str]], str] = find_uv
    gpus: Callable[[], int] = count_gpus
    free_bytes: Callable[[Path], int] = lambda folder: shutil.disk_usage(folder).free
    system_pythons: tuple[Path, ...] = (Path("/usr/bin/python3"), Path("/usr/local/bin/python3"))


@dataclass(frozen=True)
class Work:
    """One environment: what it is made from, and the folder it is, or is to be, in."""

    reference: str
    recipe: Recipe
    sources: Path
    variant: str
    digest: str
    folder: Path

    @property
    def lock(self) -> Path:
        """The locked packages."""
        return self.sources / self.recipe.variants[self.variant].lock

    @property
    def python(self) -> Path:
        """The environment's interpreter."""
        return self.folder / "env" / "bin" / "python"


def prepare(
    references: Sequence[str],
    cache: Path,
    env: Mapping[str, str],
    progress: Progress,
    *,
    sources: Path = catalogue.FOLDER,
    machine: Machine | None = None,
) -> Path:
    """Makes the images that are not there yet, and returns the list of all that are.

    Args:
        references: images that will be asked for.
        cache: the cache folder; it is only written when something is missing.
        env: environment variables, for uv.
        progress: told what is being done, at least every two seconds.
        sources: folder of the catalogue and the recipes.
        machine: what to make them with.

    Raises:
        SpecError: the catalogue has no such image, or is wrong.
        MachineError: an image cannot be made here; the message says why and what to do.
    """
    machine = machine or Machine()
    known = catalogue.listings(sources)
    home = cache / "images"
    variant = _variant(env, machine)
    works = {listing: _work(listing, sources, home, variant) for listing in known if listing.recipe}
    wanted = [catalogue.find(known, reference) for reference in references]
    try:
        for listing in dict.fromkeys(wanted):
            if listing.recipe and _image_in(works[listing].folder) is None:
                _make(works[listing], env, progress, machine)
        return _write_list(home, [(listing, works.get(listing)) for listing in known], machine)
    except OSError as error:
        raise MachineError(_trouble(error, home)) from error


def _variant(env: Mapping[str, str], machine: Machine) -> str:
    """Which build of an image to make: the one GPULAB_VARIANT names, else that for GPUs where NVML finds one."""
    named = env.get("GPULAB_VARIANT", "")
    if named not in ("", "cpu", "gpu"):
        raise SpecError(f"GPULAB_VARIANT is {named!r}; name cpu or gpu, or unset it to have the machine decide")
    return named or ("gpu" if machine.gpus() else "cpu")


def _work(listing: Listing, sources: Path, home: Path, variant: str) -> Work:
    recipe = catalogue.recipe(sources, listing.recipe)
    folder = sources / listing.recipe
    made_for = variant, platform.machine(), f"{sys.version_info.major}.{sys.version_info.minor}"
    digest = catalogue.digest(folder, *made_for)
    return Work(
        listing.references[0], recipe, folder, variant, digest, home.absolute() / f"{listing.recipe}-{digest[:16]}"
    )


def _image_in(folder: Path) -> Image | None:
    """The image in a folder, or None when it is not whole, was made elsewhere, or its interpreter has gone."""
    try:
        image = msgspec.json.decode((folder / _MARKER).read_bytes(), type=Image)
    except (FileNotFoundError, NotADirectoryError):
        return None
    whole = image.binds[0].source == str(folder) and (folder / "env" / "bin" / "python").exists()
    return image if whole else None


def _make(work: Work, env: Mapping[str, str], progress: Progress, machine: Machine) -> None:
    work.folder.parent.mkdir(parents=True, exist_ok=True)
    with _locked(work, progress):
        if _image_in(work.folder):
            return
        shutil.rmtree(work.folder, ignore_errors=True)
        _require_space(work, machine)
        try:
            work.folder.mkdir()
            image = _build(work, env, progress, machine)
            _write(work.folder / _MARKER, msgspec.json.encode(image))
        except BaseException:
            progress(f"preparing {work.reference}: removing what is not whole")
            shutil.rmtree(work.folder, ignore_errors=True)
            raise


def _build(work: Work, env: Mapping[str, str], progress: Progress, machine: Machine) -> Image:
    log = work.folder.with_suffix(".log")
    clean = {name: text for name, text in env.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
    clean.setdefault("UV_SYSTEM_CERTS", "1")  # as pip does: a company's own authority is known to the system, not to uv
    uv, python = machine.uv(env), str(work.python)
    install = [uv, "pip", "install", "--python", python, "--require-hashes", "--no-deps", "--only-binary", ":all:"]

    def do(says: str, argv: Sequence[str]) -> None:
        log.write_bytes(b"")  # of one program at a time, the one that may fail
        try:
            _follow(argv, clean, log, lambda state: progress(f"preparing {work.reference}: {says}, {state}"))
        except CommandFailed as error:
            raise MachineError(_failure(work, says, error, machine)) from error

    do("making its environment", [uv, "venv", "--python", sys.executable, str(work.folder / "env")])
    do("installing its packages", [*install, "--compile-bytecode", "--requirements", str(work.lock)])
    for step in work.recipe.steps:
        arguments = [text.replace("{folder}", str(work.folder)) for text in step.arguments]
        do(step.says, [python, str(work.sources / step.script), *arguments])
        if step.prints and (printed := tail(log, 1)) != step.prints:
            raise MachineError(
                f"the image {work.reference} could not be prepared: {step.says} gave {printed!r} where "
                f"{step.prints!r} was expected, so it is not what other machines have; tell its maintainers"
            )
    progress(f"preparing {work.reference}: measuring it")
    return catalogue.environment_image(
        work.reference, work.recipe, work.digest, work.folder, _interpreter(python, clean), _size(work.folder)
    )


def _follow(argv: Sequence[str], env: Mapping[str, str], log: Path, say: Callable[[str], None]) -> None:
    """Runs a program to its end and tells each second what it has done; it ends with this function, whatever ends that.

    Raises:
        CommandFailed: its status was not 0.
    """
    begun = time.monotonic()
    child = Child(argv, log=log, env=env)
    try:
        say("begun")
        while (status := child.wait(1.0)) is None:
            gigabytes = _written(child.pid) / _GB
            say(f"{time.monotonic() - begun:.0f} s" + (f", {gigabytes:.1f} GB written" if gigabytes > 0.1 else ""))
    finally:
        child.stop()
    if status:
        raise CommandFailed(argv, status, tail(log, 30))


def _written(pid: int) -> int:
    """Bytes that a process has written so far, see proc_pid_io(5); 0 once it is gone."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/io").read_text().splitlines():
            if line.startswith("wchar:"):
                return int(line.split()[1])
    return 0


def _interpreter(python: str, env: Mapping[str, str]) -> list[Bind]:
    """The folders that the environment's interpreter comes from, unless they are part of the system."""
    prefixes = dict.fromkeys(json.loads(run([python, "-c", _BASE], env=env)))
    return [Bind(str(Path(prefix).resolve()), prefix) for prefix in prefixes if not prefix.startswith("/usr")]


def _size(folder: Path) -> int:
    found = (Path(place, name).lstat() for place, _, names in os.walk(folder) for name in names)
    return sum(status.st_size for status in found)


def _require_space(work: Work, machine: Machine) -> None:
    needed, home = work.recipe.variants[work.variant].gigabytes, work.folder.parent
    free = machine.free_bytes(home) / _GB
    if free < needed:
        raise MachineError(
            f"the image {work.reference} needs {needed:.1f} GB in {home}, where {free:.1f} GB are free; "
            "free some space there, or let GPULAB_CACHE name a folder on a larger disk"
        )


def _failure(work: Work, says: str, error: CommandFailed, machine: Machine) -> str:
    free = machine.free_bytes(work.folder.parent) / _GB
    # Its words may not have found room on the full disk either.
    if os.strerror(errno.ENOSPC) in error.output or free < _FULL_GB:
        return (
            f"no space was left on the disk while {says} for the image {work.reference}, which needs "
            f"{work.recipe.variants[work.variant].gigabytes:.1f} GB in {work.folder.parent} (now free: {free:.1f} GB) "
            "and as much for uv's own cache where that is on another disk; free some space, or let GPULAB_CACHE and "
            f"UV_CACHE_DIR name folders on a larger disk. It said: {error.output.strip()}"
        )
    return (
        f"the image {work.reference} could not be prepared: {says} failed: {error.output.strip()}\n"
        "It needs a package index that uv can reach; run the command again, what uv has fetched is kept"
    )


def _trouble(error: OSError, home: Path) -> str:
    if error.errno in {errno.EROFS, errno.EACCES, errno.EPERM}:
        return (
            f"an image has to be prepared, but {home} cannot be written ({error.strerror}); have whoever owns that "
            "cache prepare it, or let GPULAB_CACHE name a folder of your own"
        )
    return f"the images could not be prepared in {home}: {error.strerror}; mend that, or let GPULAB_CACHE name another"


def _write_list(home: Path, known: Sequence[tuple[Listing, Work | None]], machine: Machine) -> Path:
    """Writes which image is which environment, unless the file says so already; one file per state of the recipes."""
    prefix = None if any(path.exists() for path in machine.system_pythons) else Path(sys.base_prefix)
    entries = [
        Entry(listing.references, _image_in(work.folder) if work else catalogue.system_image(listing, prefix))
        for listing, work in known
    ]
    name = catalogue.text_digest(*(work.digest if work else repr(listing) for listing, work in known))
    path, content = home / f"list-{name[:16]}.json", msgspec.json.encode(entries)
    with suppress(FileNotFoundError):
        if path.read_bytes() == content:
            return path
    home.mkdir(parents=True, exist_ok=True)
    _write(path, content)
    return path


def _write(path: Path, content: bytes) -> None:
    """Writes a file so that it is there whole or not at all, also after a loss of power."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def _locked(work: Work, progress: Progress) -> Iterator[None]:
    with work.folder.with_suffix(".lock").open("w") as lock:
        begun = time.monotonic()
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                waited = time.monotonic() - begun
                progress(f"preparing {work.reference}: waiting for another gpulab that prepares it, {waited:.0f} s")
                time.sleep(0.1)
        yield
