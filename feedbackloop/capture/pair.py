"""Two turns side by side, an answer between them, taken apart as far as somebody asks."""

from collections.abc import Mapping
from functools import cached_property

import msgspec

from feedbackloop.capture import markers
from feedbackloop.capture.folding import folded
from feedbackloop.capture.forms import is_part, parts
from feedbackloop.capture.lists import Marker
from feedbackloop.capture.markers import Turn
from feedbackloop.capture.material import aligned, instruction, is_other_material
from feedbackloop.capture.similarity import is_similar, similarity
from feedbackloop.capture.sketch import Sketch
from feedbackloop.capture.subject import (
    Shared,
    Subject,
    facts,
    is_other_subject,
    shared,
    subject,
)
from feedbackloop.capture.tongues import tongues
from feedbackloop.capture.words import Vocabulary
from feedbackloop.events import Outcome

LONG = 30
"""Words of a turn; what is longer tells a story of its own."""

_ONE_WORD = 0.8  # of the content that two turns share if they share but one word
_ANY_WORDS = 2
_LONG_SHARED = 0.4  # of the words of the one with fewer, in two long turns that may be alike
_CONTEXT = 200  # characters of prompt and answer that tell the language


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
        self._vocabulary = vocabulary
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

    @cached_property
    def bare(self) -> "Pair":
        """The same two turns, the first without a text that was pasted into it."""
        if len(self._split[1]) > LONG:
            return self
        said = instruction(self.first.said, self.second.said)
        if said == self.first.said:
            return self
        first = msgspec.structs.replace(self.first, said=said)
        return Pair(first, self.second, self._vocabulary, idf=self._idf)

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
    def facts(self) -> frozenset[Marker]:
        """What the first turn asks for: a person, a time, a way ..."""
        return facts(self.first.said, self.tongues)

    @cached_property
    def facts_again(self) -> frozenset[Marker]:
        """What the second turn asks for."""
        return facts(self.second.said, self.tongues)

    @cached_property
    def shared(self) -> Shared:
        """How far the two share their words."""
        return shared(self.before, self.after, idf=self._idf)

    @cached_property
    def parts(self) -> tuple[list[str], list[str], int]:
        """What is gone, what is new and how much stayed, parts of one word counted as it."""
        left, gone = list(self.shared.new), []
        runs = {run for word in left for run in parts(word)}
        for word in self.shared.gone:
            near = left if not runs.isdisjoint(parts(word)) else ()
            twin = next((place for place, known in enumerate(near) if is_part(word, known)), None)
            if twin is None:
                gone.append(word)
            else:
                left.pop(twin)
        return gone, left, self.shared.matched + len(self.shared.gone) - len(gone)

    @cached_property
    def is_long(self) -> bool:
        """Whether one of the two is long."""
        if max(map(len, self._split)) > LONG:
            return True
        return max(len(self.before.words), len(self.after.words)) > LONG

    @cached_property
    def is_apart(self) -> bool:
        """Whether both are long and share few words: all long texts are alike by their letters."""
        if min(map(len, self._split)) <= LONG:
            return False
        few, many = sorted(({*words} for words in self._split), key=len)
        return len(few & many) < _LONG_SHARED * len(few)

    @cached_property
    def _split(self) -> tuple[list[str], list[str]]:
        return folded(self.first.said).split(), folded(self.second.said).split()

    @cached_property
    def is_exchanged(self) -> bool:
        """Whether the two differ in what they are about, everything else being equal."""
        return is_other_subject(self.before, self.after)

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
        if self.is_apart:
            return 0.0
        if self.shared.matched == 0 and self.before.content:
            return 0.0  # what they share is grammar
        if 0 < self.shared.matched < _ANY_WORDS and self.shared.content < _ONE_WORD:
            return 0.0
        return None
