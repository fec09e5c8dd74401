"""What a pod may ask for, and its files."""

import pytest

from clusters.embedded.protos import Api, Message
from clusters.embedded.runtime.errors import Refused
from clusters.embedded.runtime.sandbox import refuse_unsupported, resolv_conf


def test_an_empty_dns_configuration_is_an_empty_file(cri: Api) -> None:
    assert resolv_conf(cri.DNSConfig()) == ""


@pytest.mark.parametrize(
    ("options", "fields", "asked"),
    [
        ({"pid": 2}, {}, "hostPID"),
        ({"pid": 0}, {}, "shareProcessNamespace"),
        ({"pid": 1, "ipc": 2}, {"port_mappings": [{"host_port": 80}]}, "hostIPC and hostPort 80"),
    ],
)
def test_what_is_not_offered_is_named(cri: Api, options: Message, fields: Message, asked: str) -> None:
    linux = {"security_context": {"namespace_options": options}}
    config = cri.PodSandboxConfig(metadata={"name": "p", "namespace": "ns"}, linux=linux, **fields)
    with pytest.raises(Refused) as caught:
        refuse_unsupported(config)
    assert str(caught.value) == (
        f"pod ns/p asks for {asked}, which the embedded cluster does not offer; leave it out or use --cluster kind"
    )


def test_only_network_settings_of_a_pods_own_network(cri: Api) -> None:
    def asked(name: str, network: int) -> Message:
        security = {"namespace_options": {"pid": 1, "network": network}}
        linux = {"security_context": security, "sysctls": {name: "1"}}
        return cri.PodSandboxConfig(metadata={"name": "p", "namespace": "ns"}, linux=linux)

    refuse_unsupported(asked("net.ipv4.tcp_syncookies", 0))
    for config in (asked("kernel.shmmax", 0), asked("net.ipv4.tcp_syncookies", 2)):
        with pytest.raises(
            Refused, match=r"^pod ns/p asks for the sysctl (kernel\.shmmax|net\.ipv4\.tcp_syncookies), "
        ):
            refuse_unsupported(config)
