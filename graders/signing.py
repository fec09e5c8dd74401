"""Signatures over a run's manifest: an instructor's Ed25519 key signs, and anyone with its public half can tell.

Place: `gpulab keygen` makes keys, a grading signs its manifest when it ends, `audit` verifies. Limits: keys are PEM
files, the private one without a passphrase; a signature is over the manifest's bytes alone, which hold the sums of all
other files, so `openssl pkeyutl -verify -rawin` can tell as well.
"""

import base64
import hashlib
import os
from pathlib import Path

import msgspec
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from graders.errors import HarnessError

FORMAT = "gpulab/signature/v1"


class BadKey(HarnessError):
    """A key cannot be read, written or used."""


class Signature(msgspec.Struct, frozen=True, kw_only=True):
    """What manifest.json.sig holds: the signature and the public key's 32 bytes, in base64, and its fingerprint."""

    format: str = FORMAT
    fingerprint: str
    key: str
    signature: str

    @classmethod
    def decode(cls, text: bytes) -> "Signature":
        """Reads one; raises ValueError when it is none, or its fingerprint is another key's."""
        found = msgspec.json.decode(text, type=cls)
        if found.format != FORMAT:
            raise ValueError(f"its format is {found.format!r}, this program reads {FORMAT!r}")
        if found.fingerprint != fingerprint(found.public):
            raise ValueError("its fingerprint is not that of its key")
        if found.encode() != text:
            raise ValueError("it is not written as `gpulab grade` writes it")
        return found

    def encode(self) -> bytes:
        """As `decode` reads it."""
        return msgspec.json.format(msgspec.json.encode(self)) + b"\n"

    @property
    def public(self) -> Ed25519PublicKey:
        """The public key it names."""
        return Ed25519PublicKey.from_public_bytes(base64.b64decode(self.key, validate=True))

    def fits(self, content: bytes) -> bool:
        """Whether the key it names signed this content."""
        try:
            self.public.verify(base64.b64decode(self.signature, validate=True), content)
        except (InvalidSignature, ValueError):
            return False
        return True


def sign(key: Ed25519PrivateKey, content: bytes) -> Signature:
    """Signs content."""
    public = key.public_key()
    return Signature(
        fingerprint=fingerprint(public),
        key=base64.b64encode(public.public_bytes_raw()).decode(),
        signature=base64.b64encode(key.sign(content)).decode(),
    )


def fingerprint(key: Ed25519PublicKey) -> str:
    """Short name of a public key: SHA-256 over its 32 bytes, in base64 without its padding."""
    digest = hashlib.sha256(key.public_bytes_raw()).digest()
    return f"SHA256:{base64.b64encode(digest).decode().rstrip('=')}"


def make_keys(private: Path) -> tuple[Path, str]:
    """Writes a new key to `private`, for its owner alone, and its public half beside it; never over a file.

    Returns: the public key's file and its fingerprint.

    Raises:
        BadKey: one of the files is there already.
    """
    key, public = Ed25519PrivateKey.generate(), private.with_name(f"{private.name}.pub")
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    known = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    if public.exists():
        raise BadKey(f"{public} is there already; a key is never overwritten, name another file")
    for path, content, mode in ((private, secret, 0o600), (public, known, 0o644)):
        try:
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        except FileExistsError as error:
            raise BadKey(f"{path} is there already; a key is never overwritten, name another file") from error
        with os.fdopen(handle, "wb") as file:
            file.write(content)
    return public, fingerprint(key.public_key())


def private_key(path: Path) -> Ed25519PrivateKey:
    """Reads a private key.

    Raises:
        BadKey: there is none that can be used.
    """
    try:
        found = serialization.load_pem_private_key(_content(path, "private"), password=None)
    except TypeError as error:
        raise BadKey(f"the key {path} has a passphrase, which nobody could type in CI; name one without") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise BadKey(f"{path} is no private key in PEM; `gpulab keygen` makes one") from error
    if not isinstance(found, Ed25519PrivateKey):
        raise BadKey(f"{path} is a private key, but not of Ed25519; `gpulab keygen` makes one")
    return found


def public_key(path: Path) -> Ed25519PublicKey:
    """Reads a public key.

    Raises:
        BadKey: there is none that can be used.
    """
    try:
        found = serialization.load_pem_public_key(_content(path, "public"))
    except (ValueError, UnsupportedAlgorithm) as error:
        raise BadKey(
            f"{path} is no public key in PEM; name the file that `gpulab keygen` wrote beside the key"
        ) from error
    if not isinstance(found, Ed25519PublicKey):
        raise BadKey(f"{path} is a public key, but not of Ed25519; name the one that `gpulab keygen` wrote")
    return found


def _content(path: Path, kind: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BadKey(f"the {kind} key {path} cannot be read: {error.strerror}; name its file") from error
