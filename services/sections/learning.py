"""From labels to a promoted release."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from feedbackloop.capture.placeholders import UNTRAINED
from services.sections.section import Address, Count, Kind, Seconds, Section, Share


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

    untrained_placeholders: tuple[Kind, ...] = UNTRAINED
    """A reply that holds what redaction put for one of these kinds is not trained on."""


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

    recipes: dict[Literal["kto", "dpo"], dict[str, float | int]] = Field(default_factory=dict)
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

    keep_releases: Annotated[int, Field(ge=2)] = 10
    """Adapters of this many last releases of each alias are kept, whatever became of them."""

    keep_seconds: Seconds = 30 * 86_400
    """An adapter that no release document, run or sidecar needs is kept this long after its run."""

    automatic: bool = True
    """Whether runs start by themselves; False leaves it to ``feedbackloop run start``."""
