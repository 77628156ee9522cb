"""Who answers, and what is noticed on the way."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from feedbackloop.capture.retries import Rules
from feedbackloop.capture.words import Table, merged, parsed
from feedbackloop.errors import SettingsError
from services.sections.section import Address, Count, Room, Seconds, Section, Share, Tenant


class Sidecar(Section):
    """The process in front of one vLLM."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9-]{1,40}$")] = "sidecar-0"
    """Names this sidecar's partition of the log and its spool; unique in a cluster."""

    bind: Address = "127.0.0.1:8080"
    """Public address: OpenAI's routes and feedback."""

    admin_bind: Address = "127.0.0.1:9090"
    """Admin address: health, metrics, releases."""

    upstream: str = ""
    """``unix:/path/to.sock`` or ``http://host:port``; empty means the socket of ``up``'s vLLM."""

    upstream_guard: Literal["required", "off"] = "required"
    """``off``: an upstream that is not our guarded vLLM; its adapters are never touched."""

    passed_on: tuple[str, ...] = ("/v1/embeddings",)
    """OpenAI's routes that are passed on and not recorded."""

    max_body_bytes: Count = 10 * 2**20
    """Largest request body; above it, 413."""

    capture_wait_seconds: Seconds = 0.02
    """Longest that an answer's end waits for its record to reach the page cache."""

    vote_wait_seconds: Seconds = 2.0
    """Longest that a vote waits for the disk before it is answered 503."""

    spool_memory_bytes: Room = 64 * 2**20
    """Records queued in memory before they are shed."""

    spool_disk_bytes: Room = 2 * 2**30
    """Records on disk, not yet in the log, before they are shed; a tenth is kept for votes."""

    adopt_after_seconds: Seconds = 60.0
    """How long the spool of a dead sidecar lies beside ours before we forward what is in it."""

    forwarder_stuck_seconds: Annotated[float, Field(gt=0)] = 60.0
    """How long the process behind the spool may do nothing, though records wait, before another
    one takes its place; twice as long after each time in vain. At least 4 times
    ``log.ack_timeout_seconds``."""

    marks: Path = Path("/dev/shm")  # noqa: S108  # a tmpfs, and nothing in it is trusted
    """Folder on a tmpfs that outlives the process: which records had numbers when it was killed."""

    upstream_connect_seconds: Seconds = 5.0
    """How long to wait for a connection to vLLM."""

    upstream_idle_seconds: Seconds = 600.0
    """How long vLLM may be silent within one reply."""

    cache_salt: bool = True
    """Whether vLLM keeps the prefix caches of tenants apart; the tenant ``default`` has no salt."""

    drain_seconds: Seconds = 30.0
    """How long running replies may go on after SIGTERM."""

    converge_seconds: Seconds = 1.0
    """How often wanted and loaded releases are compared."""

    reprove_seconds: Seconds = 300.0
    """How often an adapter that serves is proven again."""

    proof_tolerance: Annotated[float, Field(gt=0)] = 0.1
    """Largest mean difference of log-probability per token from the gate's record, in nats."""


class AliasSettings(Section):
    """One model name that clients use: letters, digits and ``._:-``, at most 64."""

    base: str
    """The model name that the upstream serves for it before the first release."""

    tenants: tuple[Tenant, ...] = ()
    """Who may ask for it: for others it does not exist. Empty: every tenant."""


class Vllm(Section):
    """The vLLM that ``feedbackloop up`` starts; in a cluster it has its own manifest."""

    model: str = ""
    """Folder or hub id of the base."""

    served_name: str = "base"
    """What vLLM calls the base; never an alias."""

    socket: str = ""
    """Unix socket; empty means ``run/vllm.sock`` under the home folder."""

    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Of weights and activations."""

    max_loras: Annotated[int, Field(ge=1)] = 3
    """Adapters that can be active at once: stable, canary and previous, for each alias."""

    max_cpu_loras: Annotated[int, Field(ge=1)] = 5
    """Adapters kept in memory; at least what is live and 2 more."""

    max_lora_rank: Literal[1, 8, 16, 32, 64, 128, 256, 320, 512] = 16
    """Largest adapter rank; above it a release is refused."""

    max_model_len: Annotated[int, Field(ge=16)] = 2048
    """Longest prompt and completion together, in tokens."""

    kv_cache_gib: Annotated[int, Field(ge=1)] = 1
    """Memory for the KV cache on a CPU."""

    arguments: tuple[str, ...] = ()
    """More arguments for vLLM's server, as they are."""


class Retries(Section):
    """When a prompt says that an earlier completion failed."""

    min_gap_seconds: Seconds = 1.0
    """A prompt sooner than this after the reply is a client's, not a person's."""

    max_gap_seconds: Seconds = 300.0
    """A similar prompt later than this asks the same only if that is plain."""

    max_repeat_gap_seconds: Seconds = 21_600.0
    """A prompt later than this begins another conversation: people repeat themselves."""

    rephrase_similarity: Share = 0.6
    """Least likeness of a turn that continues a conversation, at which it is asked again."""

    edit_similarity: Share = 0.5
    """Least likeness of a turn that replaces another, at which it is that turn, edited."""

    min_shown_tokens: Count = 30
    """An answer stopped before this many tokens was not read, unless what is said next shows it."""

    max_askers: Count = 200
    """A prompt that more people than this asked lately is a shared demo's or a load test's."""

    max_times: Count = 5
    """A prompt that one person asked more often than this lately is a machine's."""

    max_per_minute: Count = 30
    """One who sends more prompts than this in a minute is a machine; 0 for no limit."""

    words: tuple[Path, ...] = ()
    """Word tables (TOML) that add phrases and languages to those by which turns are read."""

    def rules(self) -> Rules:
        """Return the detector's rules, the team's words read.

        Raises:
            SettingsError: If a word table cannot be read, or breaks a rule; it names both.
        """
        return Rules(
            min_gap_seconds=self.min_gap_seconds,
            max_gap_seconds=self.max_gap_seconds,
            max_repeat_gap_seconds=self.max_repeat_gap_seconds,
            rephrase_similarity=self.rephrase_similarity,
            edit_similarity=self.edit_similarity,
            min_shown_tokens=self.min_shown_tokens,
            max_askers=self.max_askers,
            max_times=self.max_times,
            max_per_minute=self.max_per_minute,
            words=merged(read_words(path) for path in self.words),
        )


def read_words(path: Path) -> Table:
    """Read a word table.

    Raises:
        SettingsError: If it cannot be read, or breaks a rule.
    """
    try:
        return parsed(path.read_text("utf-8"), name=str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: {error}") from error
