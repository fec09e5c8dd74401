"""The namespaces of a pod: which ids they map, what they are entered by, and that a failure leaves nothing."""

import os
import subprocess
from pathlib import Path
from typing import ClassVar

import pytest

from clusters.embedded.runtime.namespaces import Namespaces, identity, make, users
from clusters.embedded.runtime.spawn import find
from clusters.process import CommandFailed

ALL_IDS = "         0          0 4294967295\n"
SUBORDINATE = "         0       1000          1\n         1     100000      65536\n"
ONE = "         0       1000          1\n"


def test_ids_mean_themselves_in_a_pod() -> None:
    assert identity(ALL_IDS) == "0 0 4294967295\n"
    assert identity(SUBORDINATE) == "0 0 1\n1 1 65536\n"


def test_users_are_real_where_there_are_enough_ids() -> None:
    assert [users(text) for text in (ALL_IDS, SUBORDINATE, ONE)] == ["real", "real", "mapped"]


def test_what_is_shared_with_the_node_is_not_entered() -> None:
    number = os.open("/proc/self/ns/uts", os.O_RDONLY)
    namespaces = Namespaces({"uts": number})
    assert namespaces.entering("nsenter") == ["nsenter", f"--uts=/proc/{os.getpid()}/fd/{number}", "--"]
    assert namespaces.path("net") is None
    namespaces.close()
    namespaces.close()
    assert namespaces.path("uts") is None


@pytest.mark.cluster
@pytest.mark.usefixtures("machine")
@pytest.mark.skipif(os.geteuid() != 0, reason="an ordinary user first needs a user namespace, as the holder is")
class TestMake:
    programs: ClassVar = {name: find(name) for name in ("ip", "nsenter", "unshare")}

    def test_a_pod_has_its_name_its_settings_and_no_user_namespaces_below(self) -> None:
        seen: list[int] = []
        made = make(
            "web-0",
            {"/proc/sys/net/ipv4/ip_unprivileged_port_start": "7"},
            shared=(),
            attach=seen.append,
            commands="link set lo up\n",
            programs=self.programs,
        )
        script = "hostname; cat /proc/sys/net/ipv4/ip_unprivileged_port_start; ip -brief address"
        enter = [*made.entering(self.programs["nsenter"]), "sh", "-c", script]
        nested = [self.programs["nsenter"], f"--user={made.path('user')}", "unshare", "--user", "true"]
        shown = subprocess.run(enter, capture_output=True, text=True, check=True).stdout
        refused = subprocess.run(nested, capture_output=True, text=True)
        made.close()
        assert shown.splitlines()[:2] == ["web-0", "7"]
        assert "lo               UNKNOWN        127.0.0.1/8" in shown
        assert (refused.returncode, len(seen)) == (1, 1)
        assert refused.stderr == "unshare: unshare failed: No space left on device\n"

    def test_what_the_kernel_refuses_is_said_and_leaves_nothing(self) -> None:
        before = len(list(Path("/proc/self/fd").iterdir()))
        with pytest.raises(CommandFailed) as caught:
            make(
                "x", {"/proc/sys/net/none": "1"}, shared=(), attach=lambda _: None, commands="", programs=self.programs
            )
        assert "cannot create /proc/sys/net/none: Directory nonexistent" in str(caught.value)
        assert len(list(Path("/proc/self/fd").iterdir())) == before
