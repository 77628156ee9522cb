"""What is measured, and how much of it may be lost: suites as data, with exact checks.

A suite is a YAML file about a JSONL file of items. Every check is a pure function of the
completion's text, so the same completion always gets the same answer and needs no judge.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from typing import Annotated, Literal

import msgspec
import yaml

from feedbackloop.capture.fields import UNREADABLE
from feedbackloop.events import JsonObject

Share = Annotated[float, msgspec.Meta(gt=0, lt=1)]
Count = Annotated[int, msgspec.Meta(ge=1)]
Texts = str | tuple[str, ...]

_NUMBER = re.compile(r"-?\d+(?:,\d{3})*(?:\.\d+)?")
_FENCE = re.compile(r"^```(?:json)?\s*\n(.*)\n```$", re.DOTALL)
_ROLES = ("system", "user", "assistant")


class Expect(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a completion has to be; all that is given must hold.

    Attributes:
        equals: Its whole text, blanks at the ends apart; of several, any.
        contains: Texts that must all occur.
        contains_any: Texts of which one must occur.
        not_contains: Texts of which none may occur.
        starts_with: How it begins; of several, any.
        ends_with: How it ends; of several, any.
        regex: A pattern that must be found.
        not_regex: A pattern that must not be found.
        number: The last number in it, thousands separated by commas or not.
        tolerance: How far that number may be off.
        json: True: it is JSON; or the keys that its object must have. One code fence is allowed.
        min_words: Least count of words, split at blanks.
        max_words: Largest count of words.
        max_lines: Largest count of lines that are not empty.
        ignore_case: Whether texts and patterns match in any case.
    """

    equals: Texts | None = None
    contains: Texts = ()
    contains_any: Texts = ()
    not_contains: Texts = ()
    starts_with: Texts = ()
    ends_with: Texts = ()
    regex: str | None = None
    not_regex: str | None = None
    number: float | None = None
    tolerance: Annotated[float, msgspec.Meta(ge=0)] = 0.0
    json: bool | tuple[str, ...] = False
    min_words: Count | None = None
    max_words: Count | None = None
    max_lines: Count | None = None
    ignore_case: bool = False


class Item(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One prompt, and what its completion has to be.

    Attributes:
        id: Unique in its suite.
        prompt: Messages; the last is the user's.
        expect: What must hold beside the suite's own ``checks``.
        group: The task, for scores by task.
    """

    id: Annotated[str, msgspec.Meta(min_length=1)]
    prompt: Annotated[tuple[JsonObject, ...], msgspec.Meta(min_length=1)]
    expect: Expect
    group: str = ""


class Header(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A suite's YAML file.

    Attributes:
        name: What reports call it.
        kind: How it is measured: completions, made greedily.
        items: The JSONL file, beside the YAML file.
        max_tokens: Longest completion.
        margin: Largest loss of the share of items passed that is accepted.
        alpha: Error probability of the proof; the gate's where left out.
        blocking: Whether a candidate must pass; otherwise it is only reported.
        checks: What holds for every item.
    """

    name: Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9][a-z0-9_-]{0,39}$")]
    items: str
    kind: Literal["generation"] = "generation"
    max_tokens: Count = 256
    margin: Share = 0.1
    alpha: Annotated[float, msgspec.Meta(gt=0, lt=0.5)] | None = None
    blocking: bool = True
    checks: Expect = Expect()


class Suite(msgspec.Struct, frozen=True, kw_only=True):
    """A suite that was read: its header, its items, and the digest of both files."""

    header: Header
    items: tuple[Item, ...]
    digest: str


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """What is wrong with a suite, and where.

    Attributes:
        file: Its name.
        line: From 1; 0 if it concerns the whole file.
        message: The field, and what was expected.
    """

    file: str
    line: int
    message: str

    def __str__(self) -> str:
        return (
            f"{self.file}:{self.line}: {self.message}"
            if self.line
            else (f"{self.file}: {self.message}")
        )


def read_header(raw: bytes, *, file: str) -> Header | Problem:
    """Read a suite's YAML, or say what is wrong with it."""
    try:
        return msgspec.convert(yaml.safe_load(raw), Header)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 0
        return Problem(file=file, line=line, message=f"expected YAML: {error.problem}")
    except RecursionError:
        return Problem(file=file, line=0, message="it is nested too deeply")
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        return Problem(file=file, line=0, message=f"expected YAML in UTF-8: {error}")
    except msgspec.ValidationError as error:
        return Problem(file=file, line=_line_of(raw, str(error)), message=str(error))


def read_items(raw: bytes, *, file: str) -> tuple[tuple[Item, ...], tuple[Problem, ...]]:
    """Read a suite's items, and name everything that is wrong with any of them."""
    decoder = msgspec.json.Decoder(Item)
    items: dict[str, Item] = {}
    problems = []
    for line, text in enumerate(raw.splitlines(), start=1):
        if not text.strip():
            continue
        try:
            item = decoder.decode(text)
        except UNREADABLE as error:
            problems.append(Problem(file=file, line=line, message=str(error)))
            continue
        wrong = [*_faults(item), *([f"id: {item.id!r} is taken"] if item.id in items else [])]
        problems += [Problem(file=file, line=line, message=message) for message in wrong]
        items[item.id] = item
    if not items and not problems:
        problems.append(Problem(file=file, line=0, message="expected at least one item"))
    return tuple(items.values()), tuple(problems)


def assemble(header: Header, items: Sequence[Item]) -> Suite:
    """Join header and items under the digest of what they say, blanks and order of keys apart."""
    encoder = msgspec.json.Encoder(order="deterministic")
    total = sha256(encoder.encode(header) + b"\n" + encoder.encode_lines(items))
    return Suite(header=header, items=tuple(items), digest=total.hexdigest())


def passes(completion: str, *expected: Expect) -> bool:
    """Say whether a completion is all that was expected of it."""
    return all(not failures(completion, expect) for expect in expected)


def failures(completion: str, expect: Expect) -> tuple[str, ...]:
    """Name the checks that a completion fails, by their field."""
    return tuple(name for name, check in _CHECKS.items() if not check(completion.strip(), expect))


def _fold(text: str, expect: Expect) -> str:
    return text.casefold() if expect.ignore_case else text


def _texts(texts: Texts, expect: Expect) -> tuple[str, ...]:
    several = (texts,) if isinstance(texts, str) else texts
    return tuple(_fold(text, expect) for text in several)


def _equals(text: str, expect: Expect) -> bool:
    if expect.equals is None:
        return True
    return _fold(text, expect) in [one.strip() for one in _texts(expect.equals, expect)]


def _contains(text: str, expect: Expect) -> bool:
    return all(one in _fold(text, expect) for one in _texts(expect.contains, expect))


def _contains_any(text: str, expect: Expect) -> bool:
    options = _texts(expect.contains_any, expect)
    return not options or any(one in _fold(text, expect) for one in options)


def _not_contains(text: str, expect: Expect) -> bool:
    return all(one not in _fold(text, expect) for one in _texts(expect.not_contains, expect))


def _starts_with(text: str, expect: Expect) -> bool:
    options = _texts(expect.starts_with, expect)
    return not options or _fold(text, expect).startswith(options)


def _ends_with(text: str, expect: Expect) -> bool:
    options = _texts(expect.ends_with, expect)
    return not options or _fold(text, expect).endswith(options)


def _found(pattern: str, text: str, expect: Expect) -> bool:
    flags = re.IGNORECASE if expect.ignore_case else re.NOFLAG
    return re.search(pattern, text, flags) is not None


def _regex(text: str, expect: Expect) -> bool:
    return expect.regex is None or _found(expect.regex, text, expect)


def _not_regex(text: str, expect: Expect) -> bool:
    return expect.not_regex is None or not _found(expect.not_regex, text, expect)


def _number(text: str, expect: Expect) -> bool:
    if expect.number is None:
        return True
    numbers = _NUMBER.findall(text)
    if not numbers:
        return False
    # A hair's breadth for decimals that binary fractions cannot hold.
    return abs(float(numbers[-1].replace(",", "")) - expect.number) <= expect.tolerance + 1e-9


def _json(text: str, expect: Expect) -> bool:
    if expect.json is False:
        return True
    fenced = _FENCE.match(text)
    try:
        value = json.loads(fenced[1] if fenced else text)
    except (ValueError, RecursionError):
        return False
    if expect.json is True:
        return True
    return isinstance(value, dict) and all(key in value for key in expect.json)


def _min_words(text: str, expect: Expect) -> bool:
    return expect.min_words is None or len(text.split()) >= expect.min_words


def _max_words(text: str, expect: Expect) -> bool:
    return expect.max_words is None or len(text.split()) <= expect.max_words


def _max_lines(text: str, expect: Expect) -> bool:
    lines = [line for line in text.splitlines() if line.strip()]
    return expect.max_lines is None or len(lines) <= expect.max_lines


_CHECKS: Mapping[str, Callable[[str, Expect], bool]] = {
    "equals": _equals,
    "contains": _contains,
    "contains_any": _contains_any,
    "not_contains": _not_contains,
    "starts_with": _starts_with,
    "ends_with": _ends_with,
    "regex": _regex,
    "not_regex": _not_regex,
    "number": _number,
    "json": _json,
    "min_words": _min_words,
    "max_words": _max_words,
    "max_lines": _max_lines,
}


def _faults(item: Item) -> list[str]:
    """Name what the types of an item cannot say."""
    faults = []
    for place, message in enumerate(item.prompt):
        if message.get("role") not in _ROLES:
            faults.append(f"prompt[{place}].role: expected one of {', '.join(_ROLES)}")
        if not isinstance(message.get("content"), str):
            faults.append(f"prompt[{place}].content: expected text")
    if item.prompt[-1].get("role") != "user":
        faults.append("prompt: expected the last message to be the user's")
    if item.expect in (Expect(), Expect(ignore_case=True)):
        faults.append("expect: expected at least one check")
    for field in ("regex", "not_regex"):
        try:
            re.compile(getattr(item.expect, field) or "")
        except re.error as error:
            faults.append(f"expect.{field}: expected a regular expression: {error}")
    return faults


def _line_of(raw: bytes, message: str) -> int:
    """Find the line of the field that a message names, so that an editor can jump there."""
    named = re.search(r"`\$\.(\w+)|unknown field `(\w+)`", message)
    if named is None:
        return 0
    field = (named[1] or named[2]).encode()
    lines = raw.splitlines()
    return next((n for n, line in enumerate(lines, 1) if line.strip().startswith(field)), 0)
