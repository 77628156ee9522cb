"""An identity provider on this machine, with real keys."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from services.guard import Receive, Scope, Send
from services.sidecar import answers
from tests.services.asgi import serving

RSA_KEY = rsa.generate_private_key(public_exponent=65_537, key_size=2_048)
EC_KEY = ec.generate_private_key(ec.SECP256R1())
OTHER_KEY = rsa.generate_private_key(public_exponent=65_537, key_size=2_048)
AUDIENCE = "feedbackloop"

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


def public_jwk(key: PrivateKey, name: str, **more: str) -> dict[str, Any]:
    """Write the public half of a key as providers publish it."""
    kind = (
        jwt.algorithms.ECAlgorithm
        if isinstance(key, ec.EllipticCurvePrivateKey)
        else (jwt.algorithms.RSAAlgorithm)
    )
    return {**json.loads(kind.to_jwk(key.public_key())), "kid": name, "use": "sig", **more}  # type: ignore[arg-type]  # one class for each kind of key


@dataclass(kw_only=True)
class Issuer:
    """What the provider publishes, and how often it was asked."""

    url: str = "https://id.example"
    named: str = ""
    keys: list[dict[str, Any]] = field(
        default_factory=lambda: [public_jwk(RSA_KEY, "rsa"), public_jwk(EC_KEY, "ec")]
    )
    asked: int = 0
    broken: bool = False

    async def fetch(self) -> dict[str, Any]:
        """Return what a fetch of the keys would."""
        self.asked += 1
        if self.broken:
            raise OSError
        return {"keys": self.keys}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        del receive
        if scope["path"] == "/keys":
            self.asked += 1
            body: object = {"keys": self.keys}
        else:
            body = {"issuer": self.named or self.url, "jwks_uri": f"{self.url}/keys"}
        await answers.send_json(send, 500 if self.broken else 200, json.dumps(body).encode())

    def token(
        self,
        key: PrivateKey | bytes | None = RSA_KEY,
        algorithm: str | None = "RS256",
        *,
        head: dict[str, Any] | None = None,
        **changed: Any,
    ) -> str:
        """Sign a token that is good but for what is changed; None leaves a claim out."""
        claims = {
            "iss": self.url,
            "aud": AUDIENCE,
            "sub": "app-7",
            "exp": 4_000_000_000,
            "scope": "completions feedback",
            "tenant": "acme",
        } | changed
        kept = {name: value for name, value in claims.items() if value is not None}
        headers = {"kid": "rsa"} if head is None else head
        return jwt.encode(kept, key, algorithm=algorithm, headers=headers)  # type: ignore[arg-type]  # None is "none"


@asynccontextmanager
async def an_issuer() -> AsyncIterator[Issuer]:
    """Run a provider."""
    issuer = Issuer()
    async with serving(issuer) as url:
        issuer.url = url
        yield issuer
