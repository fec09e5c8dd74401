"""DNS in pods: Services, headless pods, StatefulSet names, SRV and PTR records, search domains, ExternalName."""

import json

import pytest

from tests.contract.subject import PYTHON, Object, Space, python, service, template, workload

# A query of RFC 1035 without a library: prints the answers' names or addresses, or the response code.
QUERY = """
import json, random, socket, struct, sys
server = next(line.split()[1] for line in open("/etc/resolv.conf") if line.startswith("nameserver"))
def name(data, at):
    labels, end = [], None
    while data[at]:
        if data[at] >= 192:
            end, at = end or at + 2, struct.unpack_from("!H", data, at)[0] & 16383
            continue
        labels.append(data[at + 1:at + 1 + data[at]].decode())
        at += 1 + data[at]
    return ".".join(labels), end or at + 1
def ask(question, kind):
    number = random.randrange(65536)
    packet = struct.pack("!6H", number, 256, 1, 0, 0, 0)
    packet += b"".join(bytes([len(part)]) + part.encode() for part in question.split(".")) + b"\\0"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        asking.settimeout(5)
        asking.sendto(packet + struct.pack("!2H", kind, 1), (server, 53))
        data = asking.recv(4096)
    code, count, at, found = data[3] & 15, struct.unpack_from("!H", data, 6)[0], name(data, 12)[1] + 4, []
    if code: return code
    for _ in range(count):
        at = name(data, at)[1]
        kind, _, _, length = struct.unpack_from("!2HIH", data, at)
        at += 10
        if kind == 1: found.append(socket.inet_ntoa(data[at:at + 4]))
        if kind in (5, 12): found.append(name(data, at)[0])
        if kind == 33: found.append([struct.unpack_from("!H", data, at + 4)[0], name(data, at + 6)[0]])
        at += length
    return sorted(found)
print(json.dumps({f"{question} {kind}": ask(question, kind) for question, kind in json.loads(sys.argv[1])}))
"""
A, CNAME, PTR, SRV, NO_SUCH_NAME = 1, 5, 12, 33, 3


@pytest.fixture(scope="module")
def zone(space: Space) -> str:
    """The cluster's domain below which this namespace's Services are, once all of them have their pods."""
    spec = template("sleep 600")
    stateful = workload(
        "StatefulSet", "member", spec, replicas=2, serviceName="headless", podManagementPolicy="Parallel"
    )
    ports = [{"name": "web", "port": 80, "protocol": "TCP"}]
    space.create(
        service("headless", app="member", clusterIP="None", ports=ports),
        service("virtual", app="member", ports=ports),
        {"kind": "Service", "metadata": {"name": "alias"}, "spec": {"type": "ExternalName", "externalName": "a.test"}},
        stateful,
    )
    for name in ("headless", "virtual"):
        space.until_endpoints(name, {"member-0": True, "member-1": True})
    search = space.run("reads", "cat /etc/resolv.conf")
    words = next(line.split() for line in search.splitlines() if line.startswith("search"))
    assert words[1].startswith(f"{space.name}.svc.")
    return words[1]


@pytest.fixture(scope="module")
def answers(space: Space, zone: str) -> Object:
    """What DNS says in a pod to all questions of this module at once."""
    virtual = space.get("Service", "virtual")["spec"]["clusterIP"]
    member = space.get("Pod", "member-0")["status"]["podIP"]
    questions = [
        (f"virtual.{zone}", A),
        (f"headless.{zone}", A),
        (f"member-0.headless.{zone}", A),
        (f"_web._tcp.virtual.{zone}", SRV),
        (f"_web._tcp.headless.{zone}", SRV),
        (f"alias.{zone}", CNAME),
        (f"missing.{zone}", A),
        (backwards(virtual), PTR),
        (backwards(member), PTR),
    ]
    said = space.run("asks", "python3", "-c", QUERY, json.dumps(questions), container={"image": PYTHON})
    return dict(json.loads(said))


def backwards(address: str) -> str:
    return ".".join(reversed(address.split("."))) + ".in-addr.arpa"


def members(space: Space) -> list[str]:
    return sorted(space.get("Pod", f"member-{number}")["status"]["podIP"] for number in range(2))


def test_a_service_has_its_virtual_address(space: Space, zone: str, answers: Object) -> None:
    assert answers[f"virtual.{zone} {A}"] == [space.get("Service", "virtual")["spec"]["clusterIP"]]


def test_a_headless_service_has_the_addresses_of_its_pods(space: Space, zone: str, answers: Object) -> None:
    assert answers[f"headless.{zone} {A}"] == members(space)


def test_a_pod_of_a_stateful_set_has_a_name_of_its_own(space: Space, zone: str, answers: Object) -> None:
    assert answers[f"member-0.headless.{zone} {A}"] == [space.get("Pod", "member-0")["status"]["podIP"]]


def test_named_ports_have_srv_records(zone: str, answers: Object) -> None:
    assert answers[f"_web._tcp.virtual.{zone} {SRV}"] == [[80, f"virtual.{zone}"]]
    expected = [[80, f"member-{number}.headless.{zone}"] for number in range(2)]
    assert answers[f"_web._tcp.headless.{zone} {SRV}"] == expected


def test_addresses_have_names(space: Space, zone: str, answers: Object) -> None:
    virtual = space.get("Service", "virtual")["spec"]["clusterIP"]
    member = space.get("Pod", "member-0")["status"]["podIP"]
    assert answers[f"{backwards(virtual)} {PTR}"] == [f"virtual.{zone}"]
    assert f"member-0.headless.{zone}" in answers[f"{backwards(member)} {PTR}"]


def test_an_external_name_is_an_alias(zone: str, answers: Object) -> None:
    assert answers[f"alias.{zone} {CNAME}"] == ["a.test"]


def test_a_name_that_nobody_has_is_refused(zone: str, answers: Object) -> None:
    assert answers[f"missing.{zone} {A}"] == NO_SUCH_NAME


def test_short_names_are_completed_by_the_search_domains(space: Space, zone: str) -> None:
    names = ("virtual", f"virtual.{space.name}", f"virtual.{space.name}.svc", "kubernetes.default")
    code = f"import socket\nfor name in {names!r}: print(socket.gethostbyname(name))"
    space.create(python("completes", code))
    virtual = space.get("Service", "virtual")["spec"]["clusterIP"]
    *own, api = space.output("completes").split()
    assert own == [virtual] * 3
    kubernetes = space.resource("Service").get(name="kubernetes", namespace="default")
    assert api == kubernetes.spec.clusterIP


def test_a_pod_may_have_dns_and_hosts_of_its_own(space: Space) -> None:
    own = {"nameservers": ["192.0.2.1"], "searches": ["a.test"], "options": [{"name": "ndots", "value": "1"}]}
    aliases = [{"ip": "192.0.2.7", "hostnames": ["seven.test"]}]
    said = space.run(
        "own-dns",
        "cat /etc/resolv.conf; grep seven /etc/hosts; hostname; hostname -f",
        dnsPolicy="None",
        dnsConfig=own,
        hostAliases=aliases,
        hostname="named",
        subdomain="headless",
    )
    assert "nameserver 192.0.2.1" in said
    assert "search a.test" in said
    assert "options ndots:1" in said
    assert "192.0.2.7\tseven.test" in said
    assert said.split()[-2] == "named"
    assert said.split()[-1].startswith(f"named.headless.{space.name}.svc.")
