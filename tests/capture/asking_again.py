"""A question about pizza, its answer, and what a person does next."""

from typing import Any

from feedbackloop.capture.retries import Implication, Implied, judge
from feedbackloop.events import Alias, JsonObject, Outcome, RetryKind
from tests.capture.talks import BOB, sketched, talk

PIZZA = "How do I make a pizza at home?"
LONG = "Knead the dough for ten minutes and let it rest. " * 12


def react(
    first: list[JsonObject],
    second: list[JsonObject],
    *,
    answer: str = "Buy one.",
    after: float = 20.0,
    **changed: Any,
) -> Implication | None:
    """Judge ``second``, asked so many seconds after the answer to ``first`` had ended."""
    earlier = changed.pop("earlier", {})
    return judge(
        sketched("c1", first, answer, **earlier),
        sketched("c2", second, at=1.0 + after, **changed),
    )


def verdict(found: Implication | None) -> tuple[Implied, RetryKind | None]:
    """What is implied, and by which kind."""
    assert found is not None
    return found.implied, found.kind


def replied(turn: str, *, after: float = 20.0, answer: str = "Buy one.") -> Implication | None:
    """Judge what a person says next."""
    return react(talk(PIZZA), talk(PIZZA, answer, turn), answer=answer, after=after)


EXCLUDED: dict[str, dict[str, Any]] = {
    "failed": {"earlier": {"outcome": Outcome.UPSTREAM_FAILED}},
    "no_answer": {"earlier": {"status": 503, "body": {"error": {}}}},
    "not_read": {"earlier": {"outcome": Outcome.CLIENT_GONE}},
    "same_request": {
        "earlier": {"headers": {"idempotency-key": "k"}},
        "headers": {"idempotency-key": "k"},
    },
    "too_soon": {"after": 0.5},
    "several_choices": {"parameters": {"n": 2}},
    "cut_at_length": {"earlier": {"finish_reason": "length"}},
    "other_model": {"alias": Alias("other")},
    "other_person": {"user": BOB},
    "same_answer": {"parameters": {"temperature": 0}, "answer": "An answer."},
}
