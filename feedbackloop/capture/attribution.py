"""Which earlier completion does a prompt react to? Found by hashes, in bounded memory."""

from collections import OrderedDict
from collections.abc import Iterator

from feedbackloop.capture import retries
from feedbackloop.capture.retries import DEFAULT_RULES, Rules
from feedbackloop.events import CompletionServed, OutcomeReported, PromptRetried

_Key = tuple[str, ...]


class Attribution:
    """Remembers the last completions, and says what each new prompt implies about one of them.

    The sidecar runs it on what it serves, labelling on everything that was served; both find
    the same facts under the same ids, and labelling finds those that two sidecars shared.

    Args:
        rules: Thresholds of detection.
        capacity: How many keys are remembered; three for each completion.
    """

    def __init__(self, *, rules: Rules = DEFAULT_RULES, capacity: int = 100_000) -> None:
        self._rules = rules
        self._capacity = capacity
        self._last: OrderedDict[_Key, CompletionServed] = OrderedDict()

    def add(self, completion: CompletionServed) -> PromptRetried | OutcomeReported | None:
        """Take the next completion in, in order of acceptance; return what its prompt implies."""
        first = next(self._candidates(completion), None)
        for key in _keys(completion):
            self._last[key] = completion
            self._last.move_to_end(key)
        while len(self._last) > self._capacity:
            self._last.popitem(last=False)
        if first is None:
            return None
        implication = retries.judge(first, completion, rules=self._rules)
        return retries.event(first, completion, implication)

    def _candidates(self, completion: CompletionServed) -> Iterator[CompletionServed]:
        """Yield what the prompt may react to, most certain first."""
        who = _who(completion)
        lookups: list[_Key] = [("reply", chain) for chain in completion.chain[-2:-1]]
        lookups += [("prompt", *who, chain) for chain in completion.chain[-1:]]
        lookups.append(("place", *who, *completion.chain[-2:-1]))
        for key in lookups:
            found = self._last.get(key)
            if found is not None and found.completion_id != completion.completion_id:
                yield found


def _who(completion: CompletionServed) -> _Key:
    return completion.tenant, completion.user or completion.conversation


def _keys(completion: CompletionServed) -> Iterator[_Key]:
    """Name the places at which a later prompt would look for this completion."""
    who = _who(completion)
    for chain in completion.reply_chains:
        yield ("reply", chain)
    for chain in completion.chain[-1:]:
        yield ("prompt", *who, chain)
    yield ("place", *who, *completion.chain[-2:-1])
