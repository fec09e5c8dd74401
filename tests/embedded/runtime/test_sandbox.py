"""What a pod may ask for, and its files."""

from pathlib import Path

import pytest

from clusters.embedded.protos import Api, Message
from clusters.embedded.runtime.errors import Refused
from clusters.embedded.runtime.sandbox import refuse_unsupported, resolv_conf, setting, shares_processes


def test_an_empty_dns_configuration_is_an_empty_file(cri: Api) -> None:
    assert resolv_conf(cri.DNSConfig()) == ""


def pod(api: Api, options: Message, **fields: Message) -> Message:
    linux = {"security_context": {"namespace_options": options}, **fields.pop("linux", {})}
    return api.PodSandboxConfig(metadata={"name": "p", "namespace": "ns"}, linux=linux, **fields)


@pytest.mark.parametrize(
    ("options", "fields", "asked"),
    [
        ({"pid": 2}, {}, "hostPID"),
        ({"pid": 2, "ipc": 2}, {"linux": {"sysctls": {"kernel.sem": "1"}}}, "hostPID and the sysctl kernel.sem"),
    ],
)
def test_what_is_not_offered_is_named(cri: Api, options: Message, fields: Message, asked: str) -> None:
    with pytest.raises(Refused) as caught:
        refuse_unsupported(pod(cri, options, **fields))
    assert str(caught.value) == (
        f"pod ns/p asks for {asked}, which the embedded cluster does not offer; leave it out or use --cluster kind"
    )


@pytest.mark.parametrize(
    ("name", "options", "offered"),
    [
        ("net.ipv4.tcp_syncookies", {}, True),
        ("net.ipv4.tcp_syncookies", {"network": 2}, False),
        ("kernel.shm_rmid_forced", {}, True),
        ("kernel.shmmax", {"ipc": 2}, False),
        ("fs.mqueue.msg_max", {}, True),
        ("kernel.core_pattern", {}, False),
        ("net/../kernel/core_pattern", {}, False),
        ("vm.swappiness", {}, False),
    ],
)
def test_only_settings_of_a_pods_own_namespaces(cri: Api, name: str, options: Message, offered: bool) -> None:
    config = pod(cri, {"pid": 1, **options}, linux={"sysctls": {name: "1"}})
    if offered:
        refuse_unsupported(config)
        return
    with pytest.raises(Refused, match=rf"^pod ns/p asks for the sysctl {name}, which"):
        refuse_unsupported(config)


def test_processes_are_shared_where_the_pod_asks(cri: Api) -> None:
    assert [shares_processes(pod(cri, {"pid": number})) for number in (0, 1)] == [True, False]
    assert not shares_processes(cri.PodSandboxConfig())


def test_a_setting_is_a_file_below_proc() -> None:
    assert setting("net.ipv4.tcp_syncookies", Path("/proc")) == Path("/proc/sys/net/ipv4/tcp_syncookies")
