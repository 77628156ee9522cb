"""Everything that we raise on purpose, sorted by what the catcher does.

FeedbackLoopError
    SettingsError           wrong configuration: stop, and tell the operator
    UnavailableError        an outside service did not answer: retry
        LogUnavailable
        PolicyServerUnavailable
        StateUnavailable
        StoreUnavailable
    RecordError             one event cannot be used: count it, set it aside, go on
        MalformedEvent
        UnknownSchemaVersion
        EventsRefused
    RequestError            a client's request cannot be met: answer it with OpenAI's error body
    RunError                a training run cannot continue: end it, keep serving
        NotEnoughLabels
        TrainingDiverged
        AdapterRejected
    QueryFailed             a question to the archive is wrong, or asks for too much: ask another
    ArchiveDamaged          a file is not what it says: count nothing of it, tell the operator
    StaleEpoch              somebody newer decided meanwhile: read again, decide again
"""

from collections.abc import Mapping


class FeedbackLoopError(Exception):
    """Root of everything that we raise on purpose."""


class SettingsError(FeedbackLoopError):
    """Wrong configuration: stop, and tell the operator which setting and what was expected."""


class UnavailableError(FeedbackLoopError):
    """An outside service did not answer: the call may be retried."""


class LogUnavailable(UnavailableError):
    """The event log or the spool did not confirm; the event may or may not be stored.

    Attributes:
        reason: Why, as one word of a closed set, for counting.
        stored: How many of the events, counted from the first, are stored all the same.
    """

    def __init__(self, message: str, *, reason: str = "unconfirmed", stored: int = 0) -> None:
        self.reason = reason
        self.stored = stored
        super().__init__(message)


class PolicyServerUnavailable(UnavailableError):
    """vLLM did not answer, or failed for its own reasons."""


class StateUnavailable(UnavailableError):
    """The database of runs and releases did not answer."""


class StoreUnavailable(UnavailableError):
    """The store of files did not answer, or failed for its own reasons."""


class RecordError(FeedbackLoopError):
    """One record cannot be used: count it, set it aside, go on."""


class MalformedEvent(RecordError):
    """A record is no event that we know, or one of its fields is out of range."""


class UnknownSchemaVersion(RecordError):
    """A record was written by a newer version of this software."""

    def __init__(self, *, found: int, known: int) -> None:
        self.found = found
        self.known = known
        super().__init__(f"schema version {found} is newer than {known}, the newest known here")


class EventsRefused(RecordError):
    """The log will never take some of the events, for their own sake; it stored all others.

    Attributes:
        refused: By place in what was appended, why: ``too_large`` or ``refused``.
    """

    def __init__(self, refused: Mapping[int, str], *, why: str) -> None:
        self.refused = dict(refused)
        super().__init__(f"{len(self.refused)} events are refused for their own sake: {why}")


class RequestError(FeedbackLoopError):
    """A client's request cannot be met; becomes OpenAI's error body.

    Attributes:
        status: HTTP status, 400 to 503.
        param: The field that is wrong, if one is.
        code: OpenAI's machine-readable word, such as ``model_not_found``.
        retry_after_seconds: When to come back, for 429 and 503.
        headers: What the answer says besides, such as OpenAI's ``x-ratelimit-*``.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int,
        param: str | None = None,
        code: str | None = None,
        retry_after_seconds: float | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.message = message
        self.status = status
        self.param = param
        self.code = code
        self.retry_after_seconds = retry_after_seconds
        self.headers = headers or {}
        super().__init__(message)


class RunError(FeedbackLoopError):
    """A training run cannot continue: end it as failed, keep serving."""


class NotEnoughLabels(RunError):
    """Too few labelled completions arrived since the last run."""

    def __init__(self, *, found: int, required: int) -> None:
        self.found = found
        self.required = required
        super().__init__(f"found {found} labelled completions, and a run needs {required}")


class TrainingDiverged(RunError):
    """The loss is no longer a number, or the adapter is all zeros after training."""


class AdapterRejected(RunError):
    """An adapter folder breaks a rule, or vLLM refuses it; trying again would not help."""

    def __init__(self, release: str, reason: str) -> None:
        self.release = release
        self.reason = reason
        super().__init__(f"{release}: {reason}")


class QueryFailed(FeedbackLoopError):
    """A query cannot be answered; the message is the database's."""


class ArchiveDamaged(FeedbackLoopError):
    """A file of the archive cannot be read, or is not what its footer says."""

    def __init__(self, key: str, reason: str) -> None:
        self.key = key
        self.reason = reason
        super().__init__(f"{key}: {reason}")


class StaleEpoch(FeedbackLoopError):
    """A compare-and-set lost: somebody newer decided meanwhile. Read again, decide again."""
