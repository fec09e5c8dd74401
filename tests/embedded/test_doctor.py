"""What the doctor finds on machines made up for it."""

from collections.abc import Callable

import pytest

from clusters.api import MachineError
from clusters.embedded import doctor
from clusters.process import CommandFailed


def everything(name: str) -> str | None:
    return f"/usr/bin/{name}"


def says(version: str) -> Callable[[list[str]], str]:
    return lambda argv: version if "--version" in argv else ""


def test_a_good_machine_lacks_nothing() -> None:
    findings = doctor.machine(everything, says("bubblewrap 0.8.0"), "Linux", root=False)
    assert [str(finding) for finding in findings[-3:]] == [
        "ok       bubblewrap 0.8 or later: bubblewrap 0.8.0",
        "ok       namespaces: allowed (as an ordinary user)",
        "ok       users of containers: one id stands for all of them; for real ones install uidmap and give yourself "
        "65536 ids in /etc/subuid and /etc/subgid (usermod --help)",
    ]
    doctor.require(lambda: findings)


def test_a_missing_program_comes_with_its_remedy() -> None:
    findings = doctor.machine(
        lambda name: None if name == "nft" else name, says("bubblewrap 0.9.0"), "Linux", root=True
    )
    with pytest.raises(MachineError) as caught:
        doctor.require(lambda: findings)
    assert str(caught.value) == (
        "nft, for Services (kube-proxy): not on PATH; "
        "install it: apt-get install nftables (the same package name on most distributions)"
    )


def test_an_old_bubblewrap_is_refused() -> None:
    findings = doctor.machine(everything, says("bubblewrap 0.4.1"), "Linux", root=True)
    assert [str(finding) for finding in findings if not finding.good] == [
        "MISSING  bubblewrap 0.8 or later: bubblewrap 0.4.1\n"
        "         install a newer bubblewrap (Debian 12, Ubuntu 24.04 and later have one)"
    ]


def test_forbidden_user_namespaces_are_told_with_the_settings() -> None:
    def refuse(argv: list[str]) -> str:
        if argv[0] == "unshare":
            raise CommandFailed(argv, 1, "unshare: unshare failed: Operation not permitted\n")
        return "bubblewrap 0.8.0"

    findings = doctor.machine(everything, refuse, "Linux", root=False)
    with pytest.raises(MachineError) as caught:
        doctor.require(lambda: findings)
    assert str(caught.value) == (
        "user namespaces: unshare: unshare failed: Operation not permitted; "
        "allow them: sysctl -w user.max_user_namespaces=15000, where there is AppArmor also "
        "kernel.apparmor_restrict_unprivileged_userns=0, on old Debian kernel.unprivileged_userns_clone=1"
    )


def test_other_systems_are_told_where_to_go() -> None:
    (finding,) = doctor.machine(everything, says(""), "Darwin", root=False)
    assert str(finding) == (
        "MISSING  Linux: Darwin\n         use a Linux machine; the kind backend for others is to come"
    )
