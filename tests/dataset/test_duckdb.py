"""Labels in SQL are the labels: the functions decide, and the view follows them."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from feedbackloop.dataset.duckdb import create_labels
from feedbackloop.events import AnyEvent, EventId, RatingGiven, RetryKind, SignalWithdrawn, Thumb
from feedbackloop.labels.gather import Gathering
from feedbackloop.labels.resolve import PRIORS, Source, resolve
from tests.archives import rows, views
from tests.builders import (
    NOON,
    _signal,
    a_completion,
    a_correction,
    a_retry,
    a_thumb,
    a_withdrawal,
    an_outcome,
)

COLUMNS = "SELECT completion_id, desirable, confidence, sources FROM labels ORDER BY 1"


def a_rating(name: str, rating: int, **changed: Any) -> RatingGiven:
    return RatingGiven(rating=rating, **_signal("rating", name, rating, changed))


def taken_back(name: str, kind: Any, **changed: Any) -> SignalWithdrawn:
    return SignalWithdrawn(signal=kind, **_signal("taken back", name, kind, changed))


def labels_in_python(
    events: Sequence[AnyEvent], confidences: Mapping[Source, float]
) -> dict[str, tuple[bool, float, list[str]]]:
    gathering = Gathering()
    for event in events:
        gathering.add(event)
    labels = (
        resolve(one.completion_id, one.signals, confidences=confidences)
        for one in gathering.completions()
    )
    return {
        label.completion_id: (label.desirable, label.confidence, list(label.sources))
        for label in labels
        if label is not None
    }


def labels_in_sql(
    events: Sequence[AnyEvent], scratch: Path, confidences: Mapping[Source, float]
) -> dict[Any, tuple[Any, Any, Any]]:
    opened = views(events, scratch)
    create_labels(opened.connection, confidences=confidences)
    found = {row[0]: (row[1], row[2], row[3]) for row in rows(opened, COLUMNS)}
    opened.close()
    return found


NAMES = [f"c{n}" for n in range(12)]
names = st.sampled_from(NAMES)
when: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {
        "at": st.integers(0, 3).map(lambda seconds: NOON + timedelta(seconds=seconds)),
        "user": st.sampled_from(["ann", "bob", None]),
    }
)
signals: st.SearchStrategy[AnyEvent] = st.one_of(
    st.builds(lambda n, t, c: a_thumb(n, t, **c), names, st.sampled_from(Thumb), when),
    st.builds(lambda n, c: a_withdrawal(n, **c), names, when),
    st.builds(lambda n, r, c: a_rating(n, r, **c), names, st.integers(1, 5), when),
    st.builds(lambda n, c: a_correction(n, **c), names, when),
    st.builds(
        lambda n, o, c: an_outcome(n, o, **c),
        names,
        st.sampled_from(["copied", "accepted", "abandoned"]),
        when,
    ),
    st.builds(lambda n, k, c: a_retry(n, "c8", k, **c), names, st.sampled_from(RetryKind), when),
    st.builds(
        lambda n, k, c: taken_back(n, k, **c),
        names,
        st.sampled_from(["rating", "correction", "outcome"]),
        when,
    ),
)
trust = st.dictionaries(
    st.sampled_from(Source), st.sampled_from([0.6, 0.75, 0.9, 0.95]), min_size=1
) | st.just(dict(PRIORS))


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(signals, max_size=60), trust)
def test_the_view_says_what_the_functions_say(
    tmp_path: Path, given_signals: list[AnyEvent], confidences: dict[Source, float]
) -> None:
    """An analyst's share of liked answers and the dataset's must be the same number."""
    known: list[AnyEvent] = [a_completion(name) for name in NAMES[1:]]
    events = [*known, *given_signals, *given_signals[:3]]

    expected = labels_in_python(events, confidences)
    found = labels_in_sql(events, tmp_path, confidences)

    assert found.keys() == expected.keys()
    for name, (desirable, confidence, sources) in expected.items():
        assert found[name] == (desirable, pytest.approx(confidence, abs=1e-12), sources)


def test_a_label_stands_beside_the_release_that_it_is_about(tmp_path: Path) -> None:
    """Which is what one asks for first."""
    opened = views([a_completion("c1"), a_thumb("c1")], tmp_path)
    create_labels(opened.connection)

    found = rows(opened, "SELECT alias, release, avg(desirable::INT) FROM labels GROUP BY ALL")

    assert found == [("assistant", "base", 1.0)]


def test_signals_on_an_unknown_completion_are_no_label(tmp_path: Path) -> None:
    """Nobody knows what was said there."""
    stray = a_thumb("c7", event_id=EventId("x"))

    assert labels_in_sql([a_completion("c1"), stray], tmp_path, PRIORS) == {}
