"""The cluster's certificates, verified as a TLS library would."""

import base64
import datetime
import json
import ssl
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.x509.oid import ExtendedKeyUsageOID

from clusters.embedded.pki import Authority, kubeconfig
from clusters.embedded.private import write_private

NOW = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)


def test_a_client_is_its_common_name_and_groups(tmp_path: Path) -> None:
    pair = Authority(tmp_path, NOW).issue("kubelet", "system:node:a", ["system:nodes"])
    cert = x509.load_pem_x509_certificate(pair.cert.read_bytes())
    assert cert.subject.rfc4514_string() == "CN=system:node:a,O=system:nodes"
    usage = cert.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert [each.dotted_string for each in usage] == [ExtendedKeyUsageOID.CLIENT_AUTH.dotted_string]


def test_a_server_has_its_names_and_addresses(tmp_path: Path) -> None:
    authority = Authority(tmp_path, NOW)
    pair = authority.issue("api", "kube-apiserver", hosts=["localhost", "10.96.0.1"])
    cert = x509.load_pem_x509_certificate(pair.cert.read_bytes())
    names = cert.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["localhost"]
    assert [str(address) for address in names.get_values_for_type(x509.IPAddress)] == ["10.96.0.1"]
    cert.verify_directly_issued_by(x509.load_pem_x509_certificate(authority.cert.read_bytes()))
    ssl.create_default_context(cafile=str(authority.cert)).load_cert_chain(pair.cert, pair.key)


def test_nobody_else_may_read_a_key(tmp_path: Path) -> None:
    pair = Authority(tmp_path, NOW).issue("x", "x")
    assert pair.key.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir() if "partial" in path.name] == []


def test_tokens_are_signed_with_a_key_that_kubernetes_reads(tmp_path: Path) -> None:
    pem = Authority(tmp_path, NOW).signing_key("sa.key").read_bytes()
    assert pem.startswith(b"-----BEGIN EC PRIVATE KEY-----")
    assert serialization.load_pem_private_key(pem, None)


def test_a_kubeconfig_carries_its_certificates(tmp_path: Path) -> None:
    authority = Authority(tmp_path, NOW)
    pair = authority.issue("admin", "admin", ["system:masters"])
    path = kubeconfig(tmp_path / "config", "https://127.0.0.1:1", authority.cert, pair, "gpulab-default")
    content = json.loads(path.read_text())
    assert content["current-context"] == "gpulab-default"
    assert content["clusters"][0]["cluster"]["server"] == "https://127.0.0.1:1"
    assert base64.b64decode(content["users"][0]["user"]["client-key-data"]) == pair.key.read_bytes()
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_private_file_is_replaced_whole(tmp_path: Path) -> None:
    path = write_private(tmp_path / "f", b"old")
    assert write_private(path, b"new").read_bytes() == b"new"
