"""Keys and signatures: what is written, what is refused word for word, and that nothing but the key's own fits."""

import base64
import re
import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from graders import signing
from graders.signing import BadKey, Signature

KEY = Ed25519PrivateKey.from_private_bytes(bytes(32))
FINGERPRINT = "SHA256:E545QOZLVJFyIIjZoNdBYo/IJuCUddNBp4Cs3jxLgHA"


def test_keys_are_written_once_and_for_their_owner_alone(tmp_path: Path) -> None:
    private = tmp_path / "key"
    public, fingerprint = signing.make_keys(private)
    assert public == tmp_path / "key.pub"
    assert stat.S_IMODE(private.stat().st_mode) == 0o600
    assert signing.fingerprint(signing.public_key(public)) == fingerprint
    assert signing.fingerprint(signing.private_key(private).public_key()) == fingerprint
    content = private.read_bytes()
    with pytest.raises(BadKey) as caught:
        signing.make_keys(private)
    assert str(caught.value) == f"{public} is there already; a key is never overwritten, name another file"
    public.unlink()
    with pytest.raises(BadKey) as caught:
        signing.make_keys(private)
    assert str(caught.value) == f"{private} is there already; a key is never overwritten, name another file"
    assert private.read_bytes() == content


def test_a_signature_fits_its_content_and_key_alone() -> None:
    found = Signature.decode(signing.sign(KEY, b"manifest").encode())
    assert found == signing.sign(KEY, b"manifest")
    assert found.fingerprint == signing.fingerprint(KEY.public_key()) == FINGERPRINT
    assert found.fits(b"manifest")
    assert not found.fits(b"manifesto")
    KEY.public_key().verify(base64.b64decode(found.signature), b"manifest")  # as openssl would


def test_a_signature_that_is_none_is_refused() -> None:
    good = signing.sign(KEY, b"manifest")
    other = signing.sign(Ed25519PrivateKey.generate(), b"manifest")
    for text, said in (
        (b"{}", "Object missing required field `fingerprint`"),
        (
            good.encode().replace(b"signature/v1", b"signature/v9"),
            "its format is 'gpulab/signature/v9', this program reads 'gpulab/signature/v1'",
        ),
        (good.encode().replace(good.key.encode(), other.key.encode()), "its fingerprint is not that of its key"),
        (good.encode() + b"\n", "it is not written as `gpulab grade` writes it"),
        (good.encode().replace(good.key.encode(), b"AAAA"), "An Ed25519 public key is 32 bytes long"),
    ):
        with pytest.raises(ValueError, match=re.escape(said)) as caught:
            Signature.decode(text)
        assert str(caught.value) == said
    broken = good.encode().replace(good.signature.encode(), b"%%%")
    assert not Signature.decode(broken).fits(b"manifest")


def pem(key: Ed25519PrivateKey | ec.EllipticCurvePrivateKey, *, secret: bytes | None = None) -> bytes:
    how = serialization.BestAvailableEncryption(secret) if secret else serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, how)


def test_keys_that_cannot_be_used_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "key"
    with pytest.raises(BadKey) as caught:
        signing.private_key(path)
    assert str(caught.value) == f"the private key {path} cannot be read: No such file or directory; name its file"
    other = ec.generate_private_key(ec.SECP256R1())
    for content, said in (
        (b"none", f"{path} is no private key in PEM; `gpulab keygen` makes one"),
        (pem(KEY, secret=b"x"), f"the key {path} has a passphrase, which nobody could type in CI; name one without"),
        (pem(other), f"{path} is a private key, but not of Ed25519; `gpulab keygen` makes one"),
    ):
        path.write_bytes(content)
        with pytest.raises(BadKey) as caught:
            signing.private_key(path)
        assert str(caught.value) == said
    encoding, form = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    for content, said in (
        (pem(KEY), f"{path} is no public key in PEM; name the file that `gpulab keygen` wrote beside the key"),
        (
            other.public_key().public_bytes(encoding, form),
            f"{path} is a public key, but not of Ed25519; name the one that `gpulab keygen` wrote",
        ),
    ):
        path.write_bytes(content)
        with pytest.raises(BadKey) as caught:
            signing.public_key(path)
        assert str(caught.value) == said
