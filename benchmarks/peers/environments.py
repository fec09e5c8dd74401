"""Makes the environment that a peer runs in: once, from a lock of packages, in the user's cache folder.

Place: `clients` asks for the environments of the peers. Limits: needs a package index that uv can reach. A folder
counts once its marker is there, which is written last; whoever makes one holds a lock beside it.
"""

import fcntl
import hashlib
import platform
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from clusters.api import MachineError, Progress
from clusters.embedded.prepare import find_uv
from clusters.process import Child, tail

LOCKS = Path(__file__).parent
_MARKER = "complete"


def folder_name(peer: str, lock: bytes) -> str:
    """The peer's name and a hash of its lock, of the processor's kind and of Python's version."""
    made_for = f"{platform.machine()} {sys.version_info.major}.{sys.version_info.minor}\0".encode()
    return f"{peer}-{hashlib.sha256(made_for + lock).hexdigest()[:16]}"


def prepare(
    peer: str,
    cache: Path,
    env: Mapping[str, str],
    progress: Progress,
    *,
    locks: Path = LOCKS,
    uv: Callable[[Mapping[str, str]], str] = find_uv,
) -> Path:
    """The folder of a peer's programs, whose environment is made when it is not there yet.

    Raises:
        MachineError: it cannot be made here; the message says why.
    """
    lock = locks / f"{peer}.txt"
    folder = cache.absolute() / "peers" / folder_name(peer, lock.read_bytes())
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with folder.with_suffix(".lock").open("w") as held:
            progress(f"{peer}: waiting until nobody else prepares it")
            fcntl.flock(held, fcntl.LOCK_EX)
            if not ((folder / _MARKER).is_file() and (folder / "bin" / "python").exists()):
                _make(peer, lock, folder, uv(env), env, progress)
    except OSError as error:
        raise MachineError(f"its environment cannot be made in {folder.parent}: {error.strerror}") from error
    return folder / "bin"


def _make(peer: str, lock: Path, folder: Path, uv: str, env: Mapping[str, str], progress: Progress) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    clean = {key: text for key, text in env.items() if not key.startswith(("PYTHON", "VIRTUAL_ENV"))}
    clean.setdefault("UV_SYSTEM_CERTS", "1")  # a company's own authority is known to the system, not to uv
    install = [uv, "pip", "install", "--python", str(folder / "bin" / "python"), "--require-hashes", "--no-deps"]
    try:
        for says, argv in (
            ("making its environment", [uv, "venv", "--python", sys.executable, str(folder)]),
            ("installing its packages", [*install, "--only-binary", ":all:", "--requirements", str(lock)]),
        ):
            _do(argv, clean, folder.with_suffix(".log"), says, lambda text: progress(f"{peer}: {text}"))
        (folder / _MARKER).touch()
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _do(argv: Sequence[str], env: Mapping[str, str], log: Path, says: str, progress: Progress) -> None:
    log.write_bytes(b"")
    begun = time.monotonic()
    child = Child(argv, log=log, env=env)
    try:
        while (status := child.wait(1.0)) is None:
            progress(f"{says}, {time.monotonic() - begun:.0f} s")
    finally:
        child.stop()
    if status:
        raise MachineError(f"{says} failed, which needs a package index that uv can reach: {tail(log, 10)}")
