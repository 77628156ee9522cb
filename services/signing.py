"""Release documents signed by an operator: a way back when log, database and scheduler are away.

The private key is made at its first use and stays with the operator; sidecars hold the public
half, ``HOME/keys/releases.pub``. A document is signed as a whole, as a compact JWS with Ed25519:
its alias and epoch are in it, so that it counts once, for that alias, and never after a newer one.

References:
    RFC 7515, "JSON Web Signature"; RFC 8037, section 3.1, "EdDSA".
"""

import contextlib
import os
from pathlib import Path

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from feedbackloop.errors import RequestError, SettingsError

_ALGORITHM = "EdDSA"
_KIND = "feedbackloop-release+jws"
_OPEN = serialization.NoEncryption()


def sign(home: Path, document: bytes) -> str:
    """Sign a document; the key is made if there is none yet.

    Raises:
        SettingsError: If the key cannot be read, or others than its owner can.
    """
    key = _private(home / "keys" / "releases.pem", home / "keys" / "releases.pub")
    return jwt.PyJWS().encode(document, key, algorithm=_ALGORITHM, headers={"typ": _KIND})


def verify(home: Path, signed: str) -> bytes:
    """Return a document whose signature is good.

    Raises:
        RequestError: 403 if it is not, or if there is no key here to tell by.
    """
    try:
        key = serialization.load_pem_public_key((home / "keys" / "releases.pub").read_bytes())
        if not isinstance(key, Ed25519PublicKey):
            raise _refused("keys/releases.pub is no Ed25519 key")
        found = jwt.PyJWS().decode_complete(signed, key, algorithms=[_ALGORITHM])
    except OSError as error:
        raise _refused("this sidecar has no keys/releases.pub to check it with") from error
    except (ValueError, TypeError, jwt.PyJWTError) as error:
        raise _refused("its signature is not good") from error
    if found["header"].get("typ") != _KIND:
        raise _refused("it was signed for something else")
    return bytes(found["payload"])


def _private(file: Path, public: Path) -> Ed25519PrivateKey:
    if not file.exists():
        _make(file)
    try:
        if file.stat().st_mode & 0o077:
            raise SettingsError(f"{file} can be read by others: run chmod 600 on it")
        key = serialization.load_pem_private_key(file.read_bytes(), password=None)
    except (OSError, ValueError) as error:
        raise SettingsError(f"the signing key {file} cannot be read: {error}") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise SettingsError(f"{file}: expected an Ed25519 key")
    if not public.exists():
        pem = serialization.PublicFormat.SubjectPublicKeyInfo
        public.write_bytes(key.public_key().public_bytes(serialization.Encoding.PEM, pem))
    return key


def _make(file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    form = serialization.PrivateFormat.PKCS8
    pem = Ed25519PrivateKey.generate().private_bytes(serialization.Encoding.PEM, form, _OPEN)
    with contextlib.suppress(FileExistsError):
        handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "wb") as out:
            out.write(pem)
            out.flush()
            os.fsync(out.fileno())


def _refused(why: str) -> RequestError:
    return RequestError(
        f"the release document is refused: {why}",
        status=403,
        param="signed",
        code="bad_signature",
    )
