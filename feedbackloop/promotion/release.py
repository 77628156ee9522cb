"""The release document: what ought to be served under an alias, and since which decision."""

import msgspec

from feedbackloop.events import BASE, Alias, JsonObject, ReleaseName


class Probe(msgspec.Struct, frozen=True, kw_only=True):
    """A prompt whose continuation proves that an adapter is applied.

    Attributes:
        prompt: Messages.
        completion: What the candidate said to it greedily when the gate judged it.
        logp: Summed log-probability of that completion under the candidate, in nats.
        base_logp: The same under the base.
        tokens: How many tokens the completion has.
    """

    prompt: tuple[JsonObject, ...]
    completion: str
    logp: float
    base_logp: float
    tokens: int


class Release(msgspec.Struct, frozen=True, kw_only=True):
    """An adapter under its one name for ever: name, digest and bytes are one thing.

    Attributes:
        name: ``{alias}.{seq:05d}.{digest12}``, or ``base``.
        seq: Its number within the alias; 0 is the base.
        digest: SHA-256 of the adapter as hex (``training/artefact.py``); empty for the base.
        run: The run that made it; empty for the base.
        probes: What the gate recorded, for the proof on each replica; empty for the base.
    """

    name: ReleaseName
    seq: int
    digest: str = ""
    run: str = ""
    probes: tuple[Probe, ...] = ()


BASE_RELEASE = Release(name=BASE, seq=0)


class ReleaseDocument(msgspec.Struct, frozen=True, kw_only=True):
    """Wanted state of one alias. Replaced as a whole, by compare-and-set on ``epoch``.

    Attributes:
        alias: Whose.
        epoch: Grows by one with every change.
        stable: What answers.
        canary: What is being tried, or staged at share 0.
        canary_share: Share of units that the canary answers, in [0, 1].
        previous: What was stable before: kept loaded for a rollback.
        salt: Of the hash that assigns units; new for each rollout.
        frozen: No promotion while True.
        quarantined: Digests that were rolled back and must not be proposed again.
        next_seq: Number of the next release.
        by: Who changed it last.
        why: In plain words.
    """

    alias: Alias
    epoch: int = 0
    stable: Release = BASE_RELEASE
    canary: Release | None = None
    canary_share: float = 0.0
    previous: Release | None = None
    salt: str = ""
    frozen: bool = False
    quarantined: tuple[str, ...] = ()
    next_seq: int = 1
    by: str = ""
    why: str = ""


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(ReleaseDocument)


def encode(document: ReleaseDocument) -> bytes:
    """Write a document as JSON."""
    return _encoder.encode(document)


def decode(raw: bytes) -> ReleaseDocument:
    """Read a document.

    Raises:
        msgspec.ValidationError: If it is none; the message names the field.
    """
    return _decoder.decode(raw)
