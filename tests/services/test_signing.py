"""Signed release documents: by the operator's key, and for nothing else."""

from pathlib import Path

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from feedbackloop.errors import RequestError, SettingsError
from services import signing


def refusal(home: Path, signed: str) -> RequestError:
    with pytest.raises(RequestError) as caught:
        signing.verify(home, signed)
    return caught.value


def test_what_was_signed_is_read_back(tmp_path: Path) -> None:
    """By whoever holds the public half."""
    signed = signing.sign(tmp_path, b"document")

    assert signing.verify(tmp_path, signed) == b"document"


def test_sidecars_need_no_private_key(tmp_path: Path) -> None:
    """A sidecar that was broken into signs nothing."""
    signed = signing.sign(tmp_path, b"document")
    (tmp_path / "keys" / "releases.pem").unlink()

    assert signing.verify(tmp_path, signed) == b"document"


def test_the_private_key_is_the_operators_alone(tmp_path: Path) -> None:
    """Whoever reads it decides what people are answered."""
    signing.sign(tmp_path, b"document")
    file = tmp_path / "keys" / "releases.pem"

    assert file.stat().st_mode & 0o077 == 0
    file.chmod(0o640)
    with pytest.raises(SettingsError, match="chmod 600"):
        signing.sign(tmp_path, b"document")


def test_a_changed_document_is_refused(tmp_path: Path) -> None:
    """A byte is enough."""
    head, payload, mark = signing.sign(tmp_path, b"document").split(".")
    other = payload[:-2] + ("AA" if payload[-2:] != "AA" else "BB")

    error = refusal(tmp_path, f"{head}.{other}.{mark}")

    assert (error.status, error.param) == (403, "signed")


def test_another_key_signs_nothing(tmp_path: Path) -> None:
    """Another operator's, or an attacker's."""
    signing.sign(tmp_path, b"document")
    key = Ed25519PrivateKey.generate()
    forged = jwt.PyJWS().encode(
        b"document", key, algorithm="EdDSA", headers={"typ": "feedbackloop-release+jws"}
    )

    assert refusal(tmp_path, forged).status == 403


def test_a_signature_for_something_else_is_refused(tmp_path: Path) -> None:
    """The key may come to sign other things one day."""
    signing.sign(tmp_path, b"document")
    key = signing._private(tmp_path / "keys" / "releases.pem", tmp_path / "x")  # noqa: SLF001  # as an attacker would not
    other = jwt.PyJWS().encode(b"document", key, algorithm="EdDSA", headers={"typ": "receipt"})

    assert "something else" in refusal(tmp_path, other).message


@pytest.mark.parametrize("junk", ["", "..", "a.b.c", "e30.e30.e30", "x" * 10_000])
def test_junk_is_refused_and_nothing_worse(tmp_path: Path, junk: str) -> None:
    """Whoever reaches the admin listener may send anything."""
    signing.sign(tmp_path, b"document")

    assert refusal(tmp_path, junk).status == 403


def test_without_a_public_key_nothing_is_believed(tmp_path: Path) -> None:
    """The default of a sidecar that nobody told whom to believe."""
    assert "releases.pub" in refusal(tmp_path, "e30.e30.e30").message
