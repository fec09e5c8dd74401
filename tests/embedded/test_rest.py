"""Where objects are posted to; and what an API server that is not there, or refuses, is to its holder."""

import http.client
import socket
from typing import Any
from unittest.mock import Mock

import pytest
import yaml

from clusters.api import ClusterError
from clusters.embedded import controlplane, rest


@pytest.mark.parametrize(
    ("version", "kind", "namespace", "path"),
    [
        ("v1", "Service", "kube-system", "/api/v1/namespaces/kube-system/services"),
        ("storage.k8s.io/v1", "StorageClass", None, "/apis/storage.k8s.io/v1/storageclasses"),
        (
            "admissionregistration.k8s.io/v1",
            "ValidatingAdmissionPolicy",
            None,
            "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies",
        ),
        ("discovery.k8s.io/v1", "EndpointSlice", "a", "/apis/discovery.k8s.io/v1/namespaces/a/endpointslices"),
    ],
)
def test_an_object_has_its_place(version: str, kind: str, namespace: str | None, path: str) -> None:
    metadata = {"name": "x"} | ({"namespace": namespace} if namespace else {})
    assert rest.place({"apiVersion": version, "kind": kind, "metadata": metadata}) == path


def test_the_first_objects_are_whole() -> None:
    objects = list(yaml.safe_load_all(controlplane.BOOTSTRAP.read_text()))
    assert all({"apiVersion", "kind", "metadata"} <= each.keys() for each in objects)


@pytest.mark.parametrize(("status", "kind"), [(403, ClusterError), (409, rest.Conflict)])
def test_what_an_api_server_refuses_is_told_in_its_words(status: int, kind: type[ClusterError]) -> None:
    answer = Mock(status=status, read=lambda: b'{"message": "nodes are not yours"}')
    connection: Any = Mock(http.client.HTTPConnection, getresponse=lambda: answer)
    with pytest.raises(kind) as caught:
        rest._send(connection, "PATCH", "/api/v1/nodes/a", {}, "application/json")
    assert str(caught.value) == "the API server refused PATCH /api/v1/nodes/a: nodes are not yours"


def test_an_api_server_that_is_not_there_may_be_starting_again() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    connection = http.client.HTTPConnection("127.0.0.1", port)
    with pytest.raises(ClusterError) as caught:
        rest._send(connection, "GET", "/api/v1/nodes/a", None, "application/json")
    assert str(caught.value) == (
        "the API server did not answer GET /api/v1/nodes/a: [Errno 111] Connection refused; it may be starting again, "
        "so try once more"
    )
