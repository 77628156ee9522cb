"""How a later turn reacts to an answer: asked again as it is, continued, or replaced.

Whether it may be read at all, ``retries.py`` has decided before.
"""

from collections import Counter
from collections.abc import Mapping
from functools import cached_property

import msgspec

from feedbackloop.capture import contrary, markers
from feedbackloop.capture.markers import Turn
from feedbackloop.capture.material import aligned, is_other_material
from feedbackloop.capture.rewording import LONG, is_reworded
from feedbackloop.capture.similarity import is_similar, similarity
from feedbackloop.capture.sketch import Sketch
from feedbackloop.capture.subject import (
    Shared,
    Subject,
    asks_for_more_of_it,
    asks_otherwise,
    asks_yes_or_no,
    is_other_subject,
    kept,
    shared,
    subject,
)
from feedbackloop.capture.tongues import tongues
from feedbackloop.capture.words import Vocabulary
from feedbackloop.events import Outcome, RetryKind

_ONE_WORD = 0.8  # of the content that two turns share if they share but one word
_ANY_WORDS = 2
_KEPT = 0.8  # of a turn's words in the same order, at which another is that turn edited
_KEPT_WORDS = 3
_SHORT_WISH = 6  # words that leave open what is wanted
_STATEMENT_WORDS = 25  # a longer turn is a brief of its own
_CONTEXT = 200  # characters of prompt and answer that tell the language

THANKS = "thanks"


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What the reading of a turn depends on.

    Attributes:
        rephrase_similarity: Least likeness of a turn that continues the conversation.
        edit_similarity: Least likeness of a turn that replaces another.
        max_gap_seconds: A similar turn later than this is another conversation.
    """

    rephrase_similarity: float
    edit_similarity: float
    max_gap_seconds: float


class Pair:
    """Two turns side by side, taken apart as far as that is asked for.

    Args:
        first: The earlier completion.
        second: The later one.
        vocabulary: The languages that are known.
        idf: Weight of each word in comparisons.
    """

    def __init__(
        self, first: Sketch, second: Sketch, vocabulary: Vocabulary, *, idf: Mapping[str, float]
    ) -> None:
        self.first = first
        self.second = second
        self.gap_seconds = (second.accepted_at - first.ended_at).total_seconds()
        context = f"{first.said[:_CONTEXT]} {first.answered[:_CONTEXT]}"
        self.tongues = tongues(second.said, context, vocabulary)
        self._idf = idf

    @cached_property
    def turn(self) -> Turn:
        """The second turn, clause by clause."""
        return markers.turn(self.second.said, self.tongues, asked=self.first.said)

    @cached_property
    def turn_before(self) -> Turn:
        """The first turn, clause by clause."""
        return markers.turn(self.first.said, self.tongues)

    @cached_property
    def answer(self) -> Subject:
        """What the answer's beginning is about."""
        return subject(self.first.answered, self.tongues)

    @cached_property
    def is_game(self) -> bool:
        """Whether the conversation is a game, a quiz or a play, in which a no is a move."""
        answer = markers.turn(self.first.answered, self.tongues)
        return markers.plays(self.turn_before) or markers.plays(answer)

    @cached_property
    def is_other_material(self) -> bool:
        """Whether the two are one instruction over two materials."""
        first, second = self.first, self.second
        if first.turn == second.turn:
            return False
        if first.said != second.said:
            return is_other_material(first.said, second.said)
        # If their ends are alike too, they differ where nothing is kept: in a picture, mostly.
        return first.said_last == second.said_last or is_other_material(
            *aligned(first.said_last, second.said_last)
        )

    @property
    def is_stopped(self) -> bool:
        """Whether the person stopped the answer."""
        return self.first.outcome is Outcome.CLIENT_GONE

    @cached_property
    def constrains(self) -> bool:
        """Whether the second turn sets a condition on form."""
        return markers.constrains(self.turn)

    @cached_property
    def before(self) -> Subject:
        """What the first turn is about."""
        return subject(self.first.said, self.tongues)

    @cached_property
    def after(self) -> Subject:
        """What the second turn is about."""
        return subject(self.second.said, self.tongues)

    @cached_property
    def shared(self) -> Shared:
        """How far the two share their words."""
        return shared(self.before, self.after, idf=self._idf)

    @cached_property
    def likeness(self) -> float:
        """How alike the two turns are, by letters or by what they are about, in [0, 1]."""
        if self._plainly is not None:
            return self._plainly
        written = similarity(self.first.said, self.second.said, idf=self._idf)
        return max(self.shared.content, written)

    def is_alike(self, least: float) -> bool:
        """Say whether ``likeness`` is ``least`` or more, at less cost."""
        if self._plainly is not None:
            return self._plainly >= least
        return self.shared.content >= least or self.is_written_alike(least, idf=self._idf)

    def is_written_alike(self, least: float, *, idf: Mapping[str, float]) -> bool:
        """Say whether the two turns are alike by their letters."""
        return is_similar(self.first.said, self.second.said, least=least, idf=idf)

    @cached_property
    def _plainly(self) -> float | None:
        """How alike the two are where that is plain to see."""
        if self.first.turn == self.second.turn:
            return 1.0
        if self.shared.matched == 0 and self.before.content:
            return 0.0  # what they share is grammar
        if 0 < self.shared.matched < _ANY_WORDS and self.shared.content < _ONE_WORD:
            return 0.0
        return None


class Reaction(msgspec.Struct, frozen=True, kw_only=True):
    """What a turn says of the answer before it.

    Attributes:
        kind: The way in which it rejects the answer, or None.
        reason: Why, from the closed set in ``docs/capture.md``.
        likeness: Of the two turns, in [0, 1]; 0 where nothing is implied.
    """

    kind: RetryKind | None
    reason: str
    likeness: float = 0.0


def repeated(two: Pair) -> Reaction:
    """Read the same prompt, asked once more."""
    if markers.asks_for_more(two.turn):
        return _nothing("variety")
    return _rejected(RetryKind.REGENERATE, two)


def continued(two: Pair, limits: Limits) -> Reaction:
    """Read the person's next words, the clearest first."""
    if _is_next_in_line(two):
        return _nothing("other_subject")
    return _in_words(two, limits) or _asked_in_other_words(two, limits)


def replaced(two: Pair, limits: Limits) -> Reaction:
    """Read a turn that was put in place of another."""
    # A first turn has nothing before it that shows it is the same conversation: then time has to.
    if not two.first.is_reply and two.gap_seconds > limits.max_gap_seconds:
        return _nothing("new_request")
    if not _is_edited(two, limits.edit_similarity):
        return _nothing("new_request")
    if markers.asks_for_more(two.turn):
        return _nothing("variety")
    strictly = not two.first.is_reply and two.first.conversation != two.second.conversation
    if two.is_other_material or is_other_subject(two.before, two.after, strictly=strictly):
        return _nothing("other_subject")
    return _rejected(RetryKind.EDIT, two)


def _is_edited(two: Pair, least: float) -> bool:
    """Say whether a turn is the one before, changed."""
    return (
        max(_grown(two), _kept(two)) >= least
        or two.is_alike(least)
        # What it is about was but added to.
        or (not two.shared.gone and two.is_written_alike(least, idf={}))
    )


def _is_next_in_line(two: Pair) -> bool:
    """Say whether a turn is the last instruction with its next material: "Correct this: ..."."""
    heads = {one.said.partition(":")[0] for one in (two.first, two.second) if ":" in one.said}
    both = ":" in two.first.said and ":" in two.second.said
    return both and len(heads) == 1 and not two.is_stopped and two.is_other_material


def _in_words(two: Pair, limits: Limits) -> Reaction | None:
    """Read what a turn says outright; None if it says nothing of the answer."""
    turn = two.turn
    if two.is_stopped and markers.goes_on(turn, after_a_stop=True):
        return _nothing("go_on")
    denies = markers.denies(turn) and not markers.is_polite(turn)
    objects = _objects(two, denies=denies)
    if objects and not two.is_game:
        return _rejected(RetryKind.CORRECTION, two)
    said = {
        "answer": denies or objects,
        "go_on": markers.goes_on(turn),
        "variety": markers.asks_for_more(turn),
        THANKS: markers.is_glad(turn, is_answer=two.first.asks),
    }
    reason = next((reason for reason, applies in said.items() if applies), None)
    if reason is not None:
        return _nothing(reason)
    if _contradicts(two, limits) and not two.is_game:
        return _rejected(RetryKind.CORRECTION, two)
    return None


def _asked_in_other_words(two: Pair, limits: Limits) -> Reaction:
    reason: str | None = "new_request"
    if two.gap_seconds > limits.max_gap_seconds:
        pass
    elif two.is_alike(limits.rephrase_similarity):
        reason = _new_wish(two)
    elif _reworded(two):
        reason = None
    if two.is_stopped or reason is None:
        return _rejected(RetryKind.REPHRASE, two)
    if reason == "new_request" and two.constrains:
        reason = "constraint"
    return _nothing(reason)


def _new_wish(two: Pair) -> str | None:
    """Say why similar words are a wish of their own and no second try, if they are."""
    if two.is_other_material:
        return "other_subject"
    if two.before.words == two.after.words and two.likeness == 1:
        return None
    if is_other_subject(two.before, two.after):
        return "other_subject"
    if _asks_further(two):
        return "new_request"
    if two.constrains and not _constrained(two):
        return "constraint"
    return None


def _reworded(two: Pair) -> bool:
    """Say whether a turn asks the same in other words throughout."""
    if max(len(two.before.words), len(two.after.words)) > LONG or two.first.asks:
        return False
    if markers.follows(two.turn) or two.constrains:
        return False
    if two.is_other_material or is_other_subject(two.before, two.after):
        return False
    return is_reworded(
        two.turn_before,
        two.turn,
        subjects=(two.before, two.after),
        common=two.shared,
        answer=two.answer,
    )


def _asks_further(two: Pair) -> bool:
    """Say whether a turn asks something else about the same subject."""
    before, after = two.first.said, two.second.said
    return (
        markers.follows(two.turn)
        or asks_for_more_of_it(two.after, two.shared)
        or asks_otherwise(before, after, two.tongues)
        or asks_yes_or_no(before, after, two.tongues)
    )


def _constrained(two: Pair) -> bool:
    return markers.constrains(two.turn_before)


def _objects(two: Pair, *, denies: bool) -> bool:
    # "No" after "Shall I ...?" answers a question.
    if two.first.asks:
        return markers.insists(two.turn)
    return denies or markers.objects(two.turn)


def _contradicts(two: Pair, limits: Limits) -> bool:
    """Say whether a statement speaks against the answer, in words of prompt or answer."""
    turn = two.turn
    if len(two.after.words) > _STATEMENT_WORDS or markers.has_question(turn):
        return False
    if two.constrains:
        return False

    def asked(word: str) -> bool:
        return word in two.before.forms

    def answered(word: str) -> bool:
        return not asked(word) and word in two.answer.forms

    def named(word: str) -> bool:
        return asked(word) or answered(word)

    if two.first.asks:
        return contrary.denies_what_was_asked(turn, asked=asked, answered=answered)
    return any(named(word) for word in two.after.content) and (
        # "The same, not that" is a contrast too, and a rephrasing.
        (contrary.contrasts(turn) and not two.is_alike(limits.rephrase_similarity))
        or contrary.contradicts(turn, named)
        or contrary.corrects(turn, answered)
    )


def _grown(two: Pair) -> float:
    """Return 1 if a short turn was replaced by one that still says all of it, and more.

    "Git remove file" and "git remove file from tracking but keep it on my disk": at the same
    place, and soon, that is the wish itself, made clear.
    """
    short = 0 < len(two.before.words) <= _SHORT_WISH
    return float(short and two.shared.matched > 0 and not two.shared.gone)


def _kept(two: Pair) -> float:
    """Return how much of the first turn stands in the second as it was, 0 if little."""
    before, after = two.before.words, two.after.words
    least = max(_KEPT * len(before), _KEPT_WORDS) - 1e-9
    if len(before) < _KEPT_WORDS or sum((Counter(before) & Counter(after)).values()) < least:
        return 0.0
    same = kept(before, after)
    return same if same >= _KEPT and same * len(before) >= _KEPT_WORDS else 0.0


def _rejected(kind: RetryKind, two: Pair) -> Reaction:
    """Reject an answer; one that was stopped was rejected by that, whatever was said after it."""
    # A client may also ask again by itself, as after a broken connection.
    if two.is_stopped:
        kind = RetryKind.STOPPED
    return Reaction(kind=kind, reason=kind.value, likeness=two.likeness)


def _nothing(reason: str) -> Reaction:
    return Reaction(kind=None, reason=reason)
