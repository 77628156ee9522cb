"""Fit the weights by which a second try in other words is told, and say how well they carry over.

    python -m benchmarks.rewording [--folder tests/capture] [--without E]

Logistic regression over the labelled dialogues in which nothing but these signs can tell. Each
author's are scored with weights that were fitted to the others': what to expect on dialogues that
nobody tuned to, as far as weights go; signs and words were chosen in sight of all. ``--without``
leaves authors out of all of it: what the others' dialogues alone would give.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from feedbackloop.capture import dialogues
from feedbackloop.capture.dialogues import Fragment
from feedbackloop.capture.fragments import HALVES, half
from feedbackloop.capture.pair import Pair
from feedbackloop.capture.retries import DEFAULT_RULES, Implied, continues, judge
from feedbackloop.capture.rewording import BIAS, LIKELY, SURE, WEIGHTS, signs
from feedbackloop.capture.sketch import Sketch, sketch
from feedbackloop.capture.words import known_words

_AUTHORS = {
    "dialogues.jsonl": "ours",
    "fragments.jsonl": "ours",
    "blind.jsonl": "ours",
    "blind-a.jsonl": "A",
    "blind-b.jsonl": "B",
    "blind-c.jsonl": "C",
    "blind-d.jsonl": "D",
    "blind-e.jsonl": "E",
    "tries.jsonl": "ours",
}
_SAID = {"new_request", "other_subject", "constraint", "rephrase", "edit"}
"""What is found where a turn says nothing outright of the answer."""

_LIMITS = (-1.0, -0.5, 0.0, LIKELY, 0.5, 1.0, 1.5, 2.0)
_PLACE = {True: "go on", False: "replace another"}
_RIDGE = 2.0
_COST = 2.0  # of a wrong rejection, in missed ones
_STEPS = 60

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Sample:
    """A dialogue in which only signs can tell."""

    author: str
    kind: str | None
    continues: bool
    rejected: bool
    held_out: bool
    signs: dict[str, float]


def samples(folder: Path) -> list[Sample]:
    """Read the dialogues that our detector is developed on."""
    found: list[Sample] = []
    for name, author in _AUTHORS.items():
        for line in (folder / name).read_bytes().splitlines():
            fragment = msgspec.json.decode(line, type=Fragment)
            one = _sample(fragment, author, held_out=name == "dialogues.jsonl")
            found += [one] if one is not None else []
    return found


def _sample(fragment: Fragment, author: str, *, held_out: bool) -> Sample | None:
    halves = dialogues.completed(fragment)
    first, second = (sketch(one) for one in dialogues.completions(*halves))
    found = judge(first, second)
    if found is None or found.reason not in _SAID or fragment.implied is Implied.ACCEPTED:
        return None
    if found.gap_seconds > DEFAULT_RULES.max_gap_seconds or fragment.kind == "correction":
        return None
    return Sample(
        author=author,
        kind=fragment.kind,
        continues=continues(first, second),
        rejected=fragment.implied is Implied.REJECTED,
        held_out=held_out and half(str(fragment.id)) == HALVES[1],
        signs=_signs(first, second),
    )


def _signs(first: Sketch, second: Sketch) -> dict[str, float]:
    two = Pair(first, second, known_words(), idf={})
    if continues(first, second):
        two = two.bare
    return signs(two, similarity=DEFAULT_RULES.rephrase_similarity)


def fit(given: list[Sample]) -> tuple[float, Array]:
    """Return bias and weights, by Newton's method; samples without signs are left out."""
    known = [one for one in given if one.signs]
    x = np.array([[one.signs[name] for name in WEIGHTS] for one in known])
    y = np.array([float(one.rejected) for one in known])
    cost = np.where(y > 0, 1.0, _COST)
    mean, spread = x.mean(0), x.std(0) + 1e-9
    z = np.c_[np.ones(len(x)), (x - mean) / spread]
    ridge = np.diag([0.0, *[_RIDGE] * len(WEIGHTS)])
    w = np.zeros(z.shape[1])
    for _ in range(_STEPS):
        p = 1 / (1 + np.exp(-z @ w))
        slope = z.T @ (cost * (p - y)) + ridge @ w
        w -= np.linalg.solve((z * (cost * p * (1 - p))[:, None]).T @ z + ridge, slope)
    raw = w[1:] / spread
    return float(w[0] - raw @ mean), raw


def weighed(given: list[Sample], bias: float, weights: Array) -> Array:
    """Return the weight of each sample's signs."""
    return np.array(
        [
            bias + sum(w * one.signs[name] for name, w in zip(WEIGHTS, weights, strict=True))
            if one.signs
            else bias
            for one in given
        ]
    )


def rates(given: list[Sample], found: Array, least: float) -> tuple[float, float]:
    """Return precision and recall at a limit."""
    truth = np.array([one.rejected for one in given])
    hits = found >= least
    precision = float(truth[hits].mean()) if hits.any() else 1.0
    return precision, float(hits[truth].mean())


def left_out(every: list[Sample]) -> Array:
    """Return the weight of each sample's signs, as fitted to all other authors' dialogues."""
    found = np.zeros(len(every))
    for author in dict.fromkeys(one.author for one in every):
        theirs = fit([one for one in every if one.author != author])
        places = [n for n, one in enumerate(every) if one.author == author]
        found[places] = weighed([every[n] for n in places], *theirs)
    return found


def table(every: list[Sample], found: Array, names: str, *, goes_on: bool) -> str:
    """Say in one line what some authors' dialogues would give at each limit."""
    authors = names.split()
    places = [
        n for n, one in enumerate(every) if one.author in authors and one.continues is goes_on
    ]
    given = [every[n] for n in places]
    cells = [rates(given, found[places], least) for least in _LIMITS]
    true = sum(one.rejected for one in given)
    line = " ".join(f"{precision:5.2f} {recall:.2f}" for precision, recall in cells)
    return f"{names:9}{true:4} of {len(given):3} {line}"


def main() -> None:
    """Print the weights, and how they carry over from author to author."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.rewording",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--folder", type=Path, default=Path("tests/capture"))
    authors = [one for one in dict.fromkeys(_AUTHORS.values()) if one != "ours"]
    parser.add_argument("--without", nargs="+", default=[], choices=authors, metavar="AUTHOR")
    given = parser.parse_args()
    every = [one for one in samples(given.folder) if one.author not in given.without]
    bias, weights = fit([one for one in every if not one.held_out])
    print("fitted to all but the held-out half, and as they are:")
    print(f"  {'bias':16}{bias:6.1f}{BIAS:6.1f}")
    for (name, now), w in zip(WEIGHTS.items(), weights, strict=True):
        print(f"  {name:16}{w:6.1f}{now:6.1f}")
    print(
        f"limits now: {LIKELY}, and {SURE} where little else shows that two turns belong together"
    )
    found = left_out(every)
    strangers = " ".join(one for one in authors if one not in given.without)
    for goes_on in (True, False):
        print("precision and recall on left-out authors, turns that", _PLACE[goes_on])
        print(f"{'limit':20} " + " ".join(f"{least:10.1f}" for least in _LIMITS))
        for names in (strangers, *strangers.split(), "ours"):
            print(table(every, found, names, goes_on=goes_on))


if __name__ == "__main__":
    main()
