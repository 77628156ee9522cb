"""Every setting, read once from FEEDBACKLOOP_* variables or one TOML file.

Nested names are joined by two underscores: ``FEEDBACKLOOP_SIDECAR__BIND``. The TOML file is
named by ``FEEDBACKLOOP_SETTINGS_FILE``, and a variable outranks it. Unknown names are refused.
"""

import os
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    model_validator,
)
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from feedbackloop.capture.retries import Rules
from feedbackloop.errors import SettingsError

_PREFIX = "FEEDBACKLOOP_"
_FILE = "SETTINGS_FILE"

Seconds = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0)]
Address = Annotated[str, Field(pattern=r"^(\[[0-9a-fA-F:]+\]|[^:\s]+):\d{1,5}$")]


class Section(BaseModel):
    """A group of settings: frozen, and strict about names."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, hide_input_in_errors=True
    )


class SegmentLog(Section):
    """The embedded log: append-only files under the home folder."""

    kind: Literal["segments"] = "segments"

    segment_bytes: Annotated[int, Field(ge=4096)] = 64 * 2**20
    """Size at which a segment is sealed and the next one begun."""


class MemoryLog(Section):
    """A log that lives as long as its process: for tests, and for measuring a proxy alone."""

    kind: Literal["memory"] = "memory"


class Keys(Section):
    """Who may call, and how long what we signed is good."""

    required: bool = True
    """Whether clients need an API key; may be false only while every address is loopback."""

    admin: SecretStr = SecretStr("")
    """API key of scope ``admin``, with which the command line calls the scheduler."""

    receipt_lifetime_seconds: Seconds = 30 * 86_400
    """How long after a completion feedback on it is accepted; then 410."""


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

    spool_memory_bytes: Count = 64 * 2**20
    """Records queued in memory before they are shed."""

    spool_disk_bytes: Count = 2 * 2**30
    """Records on disk, not yet in the log, before they are shed; a tenth is kept for votes."""

    upstream_connect_seconds: Seconds = 5.0
    """How long to wait for a connection to vLLM."""

    upstream_idle_seconds: Seconds = 600.0
    """How long vLLM may be silent within one reply."""

    drain_seconds: Seconds = 30.0
    """How long running replies may go on after SIGTERM."""

    converge_seconds: Seconds = 1.0
    """How often wanted and loaded releases are compared."""

    reprove_seconds: Seconds = 300.0
    """How often an adapter that serves is proven again."""

    proof_tolerance: Annotated[float, Field(gt=0)] = 0.1
    """Largest mean difference of log-probability per token from the gate's record, in nats."""


class AliasSettings(Section):
    """One model name that clients use."""

    base: str
    """The model name that the upstream serves for it before the first release."""


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
    """A similar prompt later than this is another talk."""

    max_askers: Count = 200
    """A prompt that more people than this asked lately is a shared demo's or a load test's."""

    def rules(self) -> Rules:
        """Return the detector's rules."""
        return Rules(
            min_gap_seconds=self.min_gap_seconds,
            max_gap_seconds=self.max_gap_seconds,
            max_askers=self.max_askers,
        )


class Labels(Section):
    """When signals become labels."""

    watermark_seconds: Seconds = 600.0
    """A completion is labelled this long after it ended, so that a late thumb can still win."""

    min_confidence: Share = 0.6
    """Least confidence of a label that is trained on."""


class Dataset(Section):
    """Which labelled completions become rows."""

    window_seconds: Seconds = 30 * 86_400
    """How far back a snapshot looks."""

    holdout_share: Share = 0.1
    """Share of users whose rows are never trained on; the gate judges by them."""

    max_rows_per_user: Annotated[int, Field(ge=1)] = 20
    """Most rows of one user in a snapshot."""

    max_ratio: Annotated[float, Field(ge=1)] = 2.0
    """Most rows of the commoner label for each of the rarer; the rest is left out by chance."""


class Training(Section):
    """When a run starts and how it trains."""

    base: str = ""
    """Folder or hub id of the base; empty means ``vllm.model``."""

    min_minority_labels: Annotated[int, Field(ge=1)] = 300
    """New labels of the rarer kind that a KTO run needs."""

    min_pairs: Annotated[int, Field(ge=1)] = 500
    """Pairs that a DPO run needs."""

    rest_seconds: Seconds = 3_600.0
    """Least time between the starts of two runs of an alias."""

    max_attempts: Annotated[int, Field(ge=1)] = 3
    """How often a step is started before its run ends failed."""

    recipes: dict[Literal["kto", "dpo"], dict[str, float | int]] = {}
    """Fields of the recipe that differ from its defaults, by method."""

    threads: Count = 0
    """CPU threads of a training process; 0 leaves the choice to torch."""


class Gate(Section):
    """What a candidate has to show before it sees traffic."""

    suites: tuple[Path, ...] = ()
    """Suite files (YAML) beside the built-in checks."""

    max_holdout_rows: Annotated[int, Field(ge=1)] = 4_000
    """Most held-out rows that are scored."""

    preference_margin: Share = 0.0
    """How far the held-out preference score may lie below the incumbent's."""

    perplexity_margin: Share = 0.1
    """Largest relative growth of the perplexity on desirable held-out completions."""

    length_margin: Share = 0.5
    """Largest relative change of the mean completion length."""

    degenerate_margin: Share = 0.05
    """Largest growth of the share of completions that are empty, cut off or go in circles."""

    drift_nats: Annotated[float, Field(gt=0)] = 2.0
    """Largest mean loss of log-probability per token of the base's own completions, in nats."""

    min_units: Annotated[int, Field(ge=3)] = 20
    """Fewer users or items than this prove nothing."""

    max_prompts: Annotated[int, Field(ge=1)] = 200
    """Most held-out prompts that both policies answer."""

    max_tokens: Annotated[int, Field(ge=1)] = 256
    """Longest completion of a held-out prompt; what is cut off counts as degenerate."""

    alpha: Annotated[float, Field(gt=0, lt=0.5)] = 0.05
    """One-sided error probability of each check."""


class Canary(Section):
    """How a candidate meets traffic."""

    enabled: bool = True
    """False promotes what passed the gate at once, where no online evidence can be had."""

    shares: tuple[Share, ...] = (0.05, 0.25, 0.5)
    """Share of units at each step of the ramp."""

    dwell_seconds: Seconds = 3_600.0
    """Least time on each step."""

    maturity_seconds: Seconds = 1_800.0
    """A completion counts this long after it ended, so that quick clicks do not bias."""

    min_units: Annotated[int, Field(ge=1)] = 100
    """Least canary units before a promotion."""

    margin: Share = 0.05
    """The canary's rate of dissatisfied units may be this much higher, and no more."""

    alpha: Annotated[float, Field(gt=0, lt=0.5)] = 0.05
    """Error probability of a rollback, and of a promotion."""

    deadline_seconds: Seconds = 7 * 86_400
    """After this long without a decision the canary is inconclusive and taken back."""

    max_error_share: Share = 0.05
    """Share of failed or empty answers above the stable's at which the canary is taken back."""


class Scheduler(Section):
    """The process that runs the loop."""

    bind: Address = "127.0.0.1:9091"
    """Address of its API, health and metrics."""

    sidecars: tuple[str, ...] = ()
    """Admin addresses of all sidecars, as URLs; empty means the one of ``sidecar.admin_bind``."""

    tick_seconds: Annotated[float, Field(gt=0)] = 15.0
    """How often it looks what is due."""

    lease_seconds: Annotated[float, Field(gt=0)] = 60.0
    """How long a leader leads without renewing."""

    automatic: bool = True
    """Whether runs start by themselves; False leaves it to ``feedbackloop run start``."""


class Settings(BaseSettings):
    """All settings. Defaults run on one machine."""

    model_config = SettingsConfigDict(
        env_prefix=_PREFIX,
        env_nested_delimiter="__",
        frozen=True,
        extra="forbid",
        hide_input_in_errors=True,
        use_attribute_docstrings=True,
    )

    home: Path = Path(".feedbackloop")
    """Folder of everything that this machine keeps."""

    database: str = ""
    """SQLAlchemy URL of runs and releases; empty means ``state.db`` in the home folder."""

    log: Annotated[SegmentLog | MemoryLog, Field(discriminator="kind")] = SegmentLog()
    keys: Keys = Keys()
    sidecar: Sidecar = Sidecar()
    aliases: dict[str, AliasSettings] = {}
    vllm: Vllm = Vllm()
    retries: Retries = Retries()
    labels: Labels = Labels()
    dataset: Dataset = Dataset()
    training: Training = Training()
    gate: Gate = Gate()
    canary: Canary = Canary()
    scheduler: Scheduler = Scheduler()

    def upstream(self) -> str:
        """Return where vLLM is: ``unix:/path`` or a URL."""
        socket = self.vllm.socket or str(self.home.resolve() / "run" / "vllm.sock")
        return self.sidecar.upstream or f"unix:{socket}"

    def database_url(self) -> str:
        """Return the SQLAlchemy URL of the state database."""
        return self.database or f"sqlite:///{self.home.resolve() / 'state.db'}"

    @model_validator(mode="before")
    @classmethod
    def _default_kind(cls, data: dict[str, Any]) -> dict[str, Any]:
        """Give a log section without a kind the default one."""
        log = data.get("log")
        if isinstance(log, dict) and "kind" not in log:
            data = {**data, "log": {"kind": "segments", **log}}
        return data

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read variables first, then what the TOML file gave as initial values."""
        del settings_cls, dotenv_settings, file_secret_settings
        return env_settings, init_settings


def load() -> Settings:
    """Read the settings, and refuse any FEEDBACKLOOP_ variable that names no setting.

    Raises:
        SettingsError: If a variable or a name in the file is unknown, missing or out of range.
    """
    named = {
        name.removeprefix(_PREFIX)
        for name in os.environ
        if name.startswith(_PREFIX) and not name.startswith(_PREFIX + "TEST_")
    } - {_FILE}
    unknown = {name for name in named if name.split("__")[0].lower() not in Settings.model_fields}
    if unknown:
        names = ", ".join(sorted(_PREFIX + name for name in unknown))
        raise SettingsError(f"no such settings: {names}")
    try:
        return Settings(**_file())
    except ValidationError as error:
        raise SettingsError(_explain(error)) from error


def _file() -> dict[str, Any]:
    """Read the TOML file that the environment names, if it names one."""
    path = os.environ.get(_PREFIX + _FILE)
    if path is None:
        return {}
    try:
        with Path(path).open("rb") as file:
            return tomllib.load(file)
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"{_PREFIX}{_FILE}={path}: {error}") from error


def _explain(error: ValidationError) -> str:
    """Name each setting that is wrong as a variable, and what was expected."""
    lines = []
    for problem in error.errors(include_input=False, include_url=False):
        tags = {"segments", "memory"}
        parts = [str(part) for part in problem["loc"] if str(part) not in tags]
        name = _PREFIX + "__".join(parts).upper()
        message = "no such setting" if problem["type"] == "extra_forbidden" else problem["msg"]
        lines.append(f"{name}: {message}")
    return "; ".join(lines)
