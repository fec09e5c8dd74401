"""Facts about the machine that grades, for the record: figures of unlike machines are never compared.

Place: the plugin writes them into every run and verdict. Limits: what /proc and Python tell; GPUs are the cluster's to
tell. What is not known is None.
"""

import os
import platform
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path

import msgspec

LIBRARIES = ("gpulab", "kubernetes", "msgspec", "pyhelm3", "pytest", "uvloop")
"""Distributions whose versions can change a verdict."""


class Machine(msgspec.Struct, frozen=True):
    """A machine: `cores` that this process may use, `memory_bytes` in all, `versions` of Python distributions."""

    cpu_model: str | None
    cores: int | None
    memory_bytes: int | None
    kernel: str | None
    python: str
    versions: Mapping[str, str | None]


def parse_cpu_model(cpuinfo: str) -> str | None:
    """Processor model from the text of /proc/cpuinfo; None where the kernel does not name one, as on most Arm."""
    names = ("model name", "Model", "cpu model", "Hardware")
    fields = _fields(cpuinfo)
    return next((fields[name] for name in names if fields.get(name)), None)


def parse_memory(meminfo: str) -> int | None:
    """Bytes of memory from the text of /proc/meminfo, whose kB are KiB (proc(5))."""
    number, _, unit = _fields(meminfo).get("MemTotal", "").partition(" ")
    return int(number) * 1024 if number.isdecimal() and unit == "kB" else None


def distribution_versions(names: Iterable[str]) -> dict[str, str | None]:
    """Installed versions of distributions by name; None for one that is not installed."""
    return {name: _version(name) for name in names}


def describe_machine(proc: Path = Path("/proc"), libraries: Iterable[str] = LIBRARIES) -> Machine:
    """The machine this process runs on, read from the proc file system mounted at `proc`."""
    return Machine(
        cpu_model=parse_cpu_model(_text(proc / "cpuinfo") or ""),
        cores=len(os.sched_getaffinity(0)),
        memory_bytes=parse_memory(_text(proc / "meminfo") or ""),
        kernel=(_text(proc / "sys/kernel/osrelease") or "").strip() or None,
        python=platform.python_version(),
        versions=distribution_versions(libraries),
    )


def _fields(text: str) -> dict[str, str]:
    """First value of each `name : value` line."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        name, colon, value = line.partition(":")
        if colon:
            found.setdefault(name.strip(), value.strip())
    return found


def _text(path: Path) -> str | None:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return None


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
