"""What it costs to redact: CPU microseconds a kB, of prose and of texts full of numbers.

    python -m benchmarks.redaction

No text comes twice, but in the last row: a turn brings all earlier ones again.
"""

import itertools
import time
from string import ascii_lowercase

from feedbackloop.capture.placeholders import Numbers
from feedbackloop.capture.planting import planted
from feedbackloop.capture.redactor import Redactor, built_in

KB = 1024
PROSE = (
    "The model answers a question about orders that were shipped to another address, and asks"
    " whether to send the parcel again or to pay the price back within a few days. "
)
TURNS, ROUNDS = 5, 5


_words = map("".join, itertools.product(ascii_lowercase, repeat=4))


def cost_us(redactor: Redactor, text: str, *, repeats: int = 0) -> float:
    """Return the least CPU a kB of several rounds: the others had company.

    Args:
        redactor: Its memory of texts counts too.
        text: Begins with another word each time.
        repeats: How often it comes again.
    """
    best = float("inf")
    size = len(text.encode()) / KB * TURNS * (1 + repeats)
    for _ in range(ROUNDS):
        fresh = [f"{next(_words)} {text}" for _ in range(TURNS)]
        began = time.process_time()
        for one in itertools.chain.from_iterable(itertools.repeat(fresh, 1 + repeats)):
            redactor.text(one, Numbers())
        best = min(best, time.process_time() - began)
    return best / size * 1e6


def main() -> None:
    """Print a table: it is linear if a row's figures are alike."""
    redactor = Redactor(built_in())
    chat = " ".join(one.text for one in planted("held-out", seed=1, each=2))
    sizes = (1, 4, 16)
    print(f"{'':12}" + "".join(f"{size:>5} kB" for size in sizes))
    kinds = (("prose", PROSE * 200, 0), ("planted", chat * 3, 0), ("ten turns", PROSE * 200, 9))
    for name, text, repeats in kinds:
        row = (cost_us(redactor, text[: size * KB], repeats=repeats) for size in sizes)
        print(f"{name:12}" + "".join(f"{one:8.0f}" for one in row))


if __name__ == "__main__":
    main()
