"""Labels in SQL, over the views of an archive: the rules of ``labels/resolve.py``, row by row.

``tests/dataset/test_duckdb.py`` holds the two to each other.
"""

from collections.abc import Mapping
from math import log

from duckdb import DuckDBPyConnection

from feedbackloop.labels.resolve import ACCEPTING_OUTCOMES, PRIORS, Source

_LABELS = """
CREATE VIEW labels AS
WITH withdrawals AS (
    SELECT completion_id, user_id, max(happened_at) AS through,
        CASE type WHEN 'ThumbWithdrawn' THEN 'thumb' ELSE withdrawn END AS kind
    FROM events WHERE type IN ('ThumbWithdrawn', 'SignalWithdrawn') GROUP BY ALL
), given AS (
    SELECT completion_id, user_id, happened_at, event_id, thumb, rating, reported, retry_kind,
        CASE type
            WHEN 'ThumbGiven' THEN 'thumb' WHEN 'RatingGiven' THEN 'rating'
            WHEN 'CorrectionGiven' THEN 'correction' WHEN 'OutcomeReported' THEN 'outcome'
            WHEN 'PromptRetried' THEN 'retry'
        END AS kind
    FROM events
), standing AS (
    SELECT given.* FROM given LEFT JOIN withdrawals
        ON given.completion_id = withdrawals.completion_id AND given.kind = withdrawals.kind
        AND given.user_id IS NOT DISTINCT FROM withdrawals.user_id
    WHERE given.kind IS NOT NULL AND (through IS NULL OR happened_at > through)
), last_words AS (
    SELECT * FROM standing WHERE kind IN ('thumb', 'rating', 'correction')
    QUALIFY row_number() OVER (
        PARTITION BY completion_id, user_id
        ORDER BY happened_at DESC, (kind = 'correction' OR thumb IS NOT DISTINCT FROM 'down') DESC,
            event_id DESC
    ) = 1
), said AS (
    SELECT completion_id,
        CASE kind WHEN 'correction' THEN 'correction_given' ELSE kind END AS source,
        CASE kind WHEN 'thumb' THEN thumb = 'up' WHEN 'correction' THEN false
            WHEN 'rating' THEN CASE WHEN rating >= 4 THEN true WHEN rating <= 2 THEN false END
        END AS desirable
    FROM last_words WHERE desirable IS NOT NULL
), done AS (
    SELECT DISTINCT completion_id,
        CASE kind WHEN 'retry' THEN retry_kind ELSE 'accepted' END AS source,
        kind = 'outcome' AS desirable
    FROM standing WHERE kind = 'retry' OR (kind = 'outcome' AND reported IN ({accepting}))
), readings AS (
    SELECT * FROM said
    UNION ALL
    SELECT * FROM done ANTI JOIN said USING (completion_id)
), votes AS (
    SELECT completion_id, source, rank, log_odds,
        sum(CASE WHEN desirable THEN 1 ELSE -1 END) AS net
    FROM readings JOIN (VALUES {trusted}) AS trusted(source, rank, log_odds) USING (source)
    GROUP BY ALL
), weighed AS (
    SELECT completion_id, list_sort(list(source)) AS sources,
        list_reduce(list_prepend(0.0::DOUBLE, coalesce(
            list(net * log_odds ORDER BY rank) FILTER (net <> 0), []
        )), lambda total, part: total + part) AS odds
    FROM votes GROUP BY completion_id
)
SELECT completion_id, odds > 0 AS desirable, 1 / (1 + exp(-abs(odds))) AS confidence, sources,
    alias, release, arm, tenant, user_id, conversation, ended_at
FROM weighed JOIN completions USING (completion_id) WHERE odds <> 0;
"""


def create_labels(
    connection: DuckDBPyConnection, *, confidences: Mapping[Source, float] = PRIORS
) -> None:
    """Add the view ``labels`` to those of an archive: one row for each completion with a label.

    Args:
        connection: Has the views ``events`` and ``completions``.
        confidences: As for ``resolve``; a kind that is missing is switched off.
    """
    trusted = ", ".join(
        f"('{source.value}', {rank}, {_log_odds(confidences[source])!r}::DOUBLE)"
        for rank, source in enumerate(Source)
        if source in confidences
    )
    accepting = ", ".join(f"'{outcome}'" for outcome in sorted(ACCEPTING_OUTCOMES))
    connection.execute(_LABELS.replace("{trusted}", trusted).replace("{accepting}", accepting))


def _log_odds(confidence: float) -> float:
    return log(confidence / (1 - confidence))
