"""How a later turn reacts to an answer: asked again as it is, continued, or replaced.

Whether it may be read at all, ``retries.py`` has decided before.
"""

from collections import Counter

import msgspec

from feedbackloop.capture import contrary, markers
from feedbackloop.capture.pair import Pair
from feedbackloop.capture.rewording import LIKELY, PLAIN, SURE, is_second_try, keeps_much, new_wish
from feedbackloop.capture.subject import is_other_subject, kept
from feedbackloop.events import RetryKind

_KEPT = 0.8  # of a turn's words in the same order, at which another is that turn edited
_KEPT_WORDS = 3
_SHORT_WISH = 6  # words that leave open what is wanted
_STATEMENT_WORDS = 25  # a longer turn is a brief of its own
_SHORT_OBJECTION = 7  # words
_SHORT_CHARACTERS = 14
_COPIED_WORDS = 6  # that nobody types again as they were
_GLIMPSE = 1 / 3  # of what has to be shown of an answer

THANKS = "thanks"
UNREAD = "not_read"


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What the reading of a turn depends on.

    Attributes:
        rephrase_similarity: Least likeness of a turn that continues the conversation.
        edit_similarity: Least likeness of a turn that replaces another.
        max_gap_seconds: A similar turn later than this asks the same only if that is plain.
        max_repeat_gap_seconds: A turn later than this begins another conversation.
        min_shown_tokens: An answer that was stopped earlier than this was not read to judge it.
    """

    rephrase_similarity: float
    edit_similarity: float
    max_gap_seconds: float
    max_repeat_gap_seconds: float
    min_shown_tokens: int


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
    if is_unread(two, limits):
        return _after_a_glance(two, limits)
    return _in_words(two, limits) or _asked_in_other_words(two, limits)


def replaced(two: Pair, limits: Limits) -> Reaction:
    """Read a turn that was put in place of another."""
    if is_unread(two, limits) and not _is_glimpsed(two, limits):
        return _nothing(UNREAD)
    # A first turn has nothing before it that shows it is the same conversation: then time has to.
    late = not two.first.is_reply and two.gap_seconds > limits.max_gap_seconds
    if not (_is_revised_late(two, limits) if late else _is_revised(two, limits)):
        return _nothing("new_request")
    if markers.asks_for_more(two.turn):
        return _nothing("variety")
    other = two.is_other_material or two.is_exchanged
    return _nothing("other_subject") if other else _rejected(RetryKind.EDIT, two)


def _is_revised(two: Pair, limits: Limits) -> bool:
    """Say whether a turn is the one before, changed, or the same wish in other words."""
    apart = _is_apart(two)
    edited = _is_edited(two, limits.edit_similarity)
    if (apart or not edited) and keeps_much(two):
        least = SURE if apart else LIKELY
        if is_second_try(two, similarity=limits.edit_similarity, least=least):
            return True
    return edited and not (apart and is_other_subject(two.before, two.after, strictly=True))


def _is_apart(two: Pair) -> bool:
    """Say whether both turns begin a conversation, each its own."""
    return not two.first.is_reply and two.first.conversation != two.second.conversation


def _is_revised_late(two: Pair, limits: Limits) -> bool:
    """Say whether a first turn is, after a while, plainly the one before with something added.

    "Write a cover letter for a junior nurse position", and an hour later the same and "I just
    graduated": nobody types that much again as it was.
    """
    if two.gap_seconds > limits.max_repeat_gap_seconds:
        return False
    before, after = two.before.words, two.after.words
    if len(before) >= _COPIED_WORDS and kept(before, after) == 1:
        return True
    if two.parts[0] or not keeps_much(two):
        return False
    return is_second_try(two, similarity=limits.edit_similarity, least=PLAIN)


def _is_edited(two: Pair, least: float) -> bool:
    """Say whether a turn is the one before, changed."""
    return not two.is_apart and (
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
        anew = markers.asks_anew(turn)
        return _rejected(RetryKind.REPHRASE if anew else RetryKind.CORRECTION, two)
    glad = markers.is_glad(turn, is_answer=two.first.asks)
    # "That's perfect tense, not passive" begins like praise.
    opposes = (
        (not glad or contrary.contrasts(turn)) and _contradicts(two, limits) and not two.is_game
    )
    said = {
        "answer": denies or objects,
        "go_on": markers.goes_on(turn),
        "variety": markers.asks_for_more(turn),
        "constraint": glad and markers.amends(turn),
        THANKS: glad and not opposes,
    }
    reason = next((reason for reason, applies in said.items() if applies), None)
    if reason is not None:
        return _nothing(reason)
    if opposes:
        return _rejected(RetryKind.CORRECTION, two)
    return None


def is_unread(two: Pair, limits: Limits) -> bool:
    """Say whether the person stopped an answer before it could be judged by what was shown."""
    return two.is_stopped and two.first.shown_tokens < limits.min_shown_tokens


def _is_glimpsed(two: Pair, limits: Limits) -> bool:
    """Say whether enough was shown of an answer to see that it goes wrong."""
    return two.first.shown_tokens >= _GLIMPSE * limits.min_shown_tokens


def _after_a_glance(two: Pair, limits: Limits) -> Reaction:
    """Read what a person wrote who stopped an answer early: a word of it shows that it was read.

    A stop alone says nothing, nor does a new subject. Who objects has read enough, however little
    that was; who says the wish anew had to see where the answer went.
    """
    said = _in_words(two, limits)
    if said is not None:
        return said if said.kind is not None else _nothing(UNREAD)
    narrows = markers.narrows(two.turn) and (_is_about_it(two) or _is_short(two))
    if narrows or (_is_glimpsed(two, limits) and _is_asked_anew(two, limits)):
        return _rejected(RetryKind.REPHRASE, two)
    return _nothing(UNREAD)


def _is_about_it(two: Pair) -> bool:
    """Say whether a turn names what the first turn or the answer did."""
    return any(word in two.before.forms or word in two.answer.forms for word in two.after.content)


def _is_short(two: Pair) -> bool:
    if not two.tongues[0].spaced:
        return len(two.second.said) <= _SHORT_CHARACTERS
    return len(two.after.words) <= _SHORT_OBJECTION


def _is_asked_anew(two: Pair, limits: Limits) -> bool:
    """Say whether a turn that goes on asks for the same again; later, that must be plain."""
    soon = two.gap_seconds <= limits.max_gap_seconds
    if not soon and two.gap_seconds > limits.max_repeat_gap_seconds:
        return False
    least = LIKELY if soon else SURE
    return is_second_try(two.bare, similarity=limits.rephrase_similarity, least=least)


def _asked_in_other_words(two: Pair, limits: Limits) -> Reaction:
    least = limits.rephrase_similarity
    soon = two.gap_seconds <= limits.max_gap_seconds
    if two.is_stopped or _is_asked_anew(two, limits):
        return _rejected(RetryKind.REPHRASE, two)
    reason = (new_wish(two) if soon and two.is_alike(least) else None) or "new_request"
    if reason == "new_request" and two.constrains:
        reason = "constraint"
    return _nothing(reason)


def _objects(two: Pair, *, denies: bool) -> bool:
    # "No" after "Shall I ...?" answers a question.
    if two.first.asks:
        return markers.insists(two.turn)
    return denies or markers.objects(two.turn)


def _contradicts(two: Pair, limits: Limits) -> bool:
    """Say whether a statement speaks against the answer, in words of prompt or answer."""
    turn = two.turn
    if two.constrains or len(two.second.said.split()) > _STATEMENT_WORDS:
        return False
    if len(two.after.words) > _STATEMENT_WORDS or markers.has_question(turn):
        return False

    def asked(word: str) -> bool:
        return word in two.before.forms

    def answered(word: str) -> bool:
        return not asked(word) and word in two.answer.forms

    def named(word: str) -> bool:
        return asked(word) or answered(word)

    if two.first.asks:
        return contrary.denies_what_was_asked(turn, asked=asked, answered=answered)
    speaks_against = (
        # "The same, not that" is a contrast too, and a rephrasing.
        (contrary.contrasts(turn) and not two.is_alike(limits.rephrase_similarity))
        or contrary.contradicts(turn, named)
        or contrary.corrects(turn, answered)
    )
    return speaks_against and any(named(word) for word in two.after.content)


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
