"""The cluster's certificates: its authorities, one certificate per component and node, made anew for each cluster.

Place: controlplane.py and node.py ask for the files they hand to programs. Limits: ECDSA P-256 keys, valid for ten
years (a cluster lives for hours); nothing is rotated or revoked.

Who a client is, Kubernetes reads from its certificate: the common name is the user, the organisations are the groups
(https://kubernetes.io/docs/reference/access-authn-authz/authentication/#x509-client-certificates).
"""

import base64
import datetime
import ipaddress
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from clusters.embedded.private import write_private

_VALID = datetime.timedelta(days=3650)


@dataclass(frozen=True)
class Pair:
    """Files of one certificate (`cert`) and its private key (`key`), both PEM and readable by their owner only."""

    cert: Path
    key: Path


class Authority:
    """A certificate authority; its own certificate `NAME.crt` and those it makes are files in `folder`."""

    def __init__(self, folder: Path, now: datetime.datetime, name: str = "ca") -> None:
        self._folder, self._now = folder, now
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name(f"gpulab-{name}", ())
        constraints = x509.BasicConstraints(ca=True, path_length=None)
        self._cert = self._sign(self._name, self._key.public_key(), [(constraints, True)])
        self.cert = write_private(folder / f"{name}.crt", _pem(self._cert))

    def issue(self, file: str, user: str, groups: Sequence[str] = (), hosts: Sequence[str] = ()) -> Pair:
        """A certificate for the client `user` in `groups`; with `hosts` (names, addresses) it also serves as them."""
        key = ec.generate_private_key(ec.SECP256R1())
        usages = [ExtendedKeyUsageOID.CLIENT_AUTH] + ([ExtendedKeyUsageOID.SERVER_AUTH] if hosts else [])
        extensions: list[tuple[x509.ExtensionType, bool]] = [(x509.ExtendedKeyUsage(usages), False)]
        if hosts:
            extensions.append((x509.SubjectAlternativeName([_host(host) for host in hosts]), False))
        cert = self._sign(_name(user, groups), key.public_key(), extensions)
        return Pair(
            write_private(self._folder / f"{file}.crt", _pem(cert)),
            write_private(self._folder / f"{file}.key", _key_pem(key)),
        )

    def signing_key(self, file: str) -> Path:
        """A bare private key, for service-account tokens."""
        return write_private(self._folder / file, _key_pem(ec.generate_private_key(ec.SECP256R1())))

    def _sign(
        self, subject: x509.Name, key: ec.EllipticCurvePublicKey, extensions: list[tuple[x509.ExtensionType, bool]]
    ) -> x509.Certificate:
        builder = x509.CertificateBuilder(
            issuer_name=self._name,
            subject_name=subject,
            public_key=key,
            serial_number=x509.random_serial_number(),
            not_valid_before=self._now - datetime.timedelta(minutes=5),
            not_valid_after=self._now + _VALID,
        )
        for extension, critical in extensions:
            builder = builder.add_extension(extension, critical)
        return builder.sign(self._key, hashes.SHA256())


def kubeconfig(path: Path, server: str, authority: Path, pair: Pair, name: str) -> Path:
    """Writes a kubeconfig that carries its certificates inside; `name` is its cluster, user and current context."""
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": {"server": server, "certificate-authority-data": _inline(authority)}}],
        "users": [
            {
                "name": name,
                "user": {"client-certificate-data": _inline(pair.cert), "client-key-data": _inline(pair.key)},
            }
        ],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
        "current-context": name,
    }
    return write_private(path, json.dumps(content, indent=1).encode())  # JSON is YAML too


def _inline(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()


def _name(user: str, groups: Sequence[str]) -> x509.Name:
    organisations = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in groups]
    return x509.Name([*organisations, x509.NameAttribute(NameOID.COMMON_NAME, user)])


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _pem(cert: x509.Certificate) -> bytes:
    return cert.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    # Kubernetes derives the public key of service-account tokens from this form only, not from PKCS #8.
    form = serialization.PrivateFormat.TraditionalOpenSSL
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
