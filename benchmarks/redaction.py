"""What it costs to redact: CPU microseconds a kB, of prose and of texts full of numbers.

python -m benchmarks.redaction
"""

import time

from feedbackloop.capture.placeholders import Numbers
from feedbackloop.capture.planting import planted
from feedbackloop.capture.redactor import Redactor, built_in

KB = 1024
PROSE = (
    "The model answers a question about orders that were shipped to another address, and asks"
    " whether to send the parcel again or to pay the price back within a few days. "
)
TURNS, ROUNDS = 5, 5


def cost_us(redactor: Redactor, text: str) -> float:
    """Return the least CPU a kB of several rounds: the others had company."""
    best = float("inf")
    for _ in range(ROUNDS):
        began = time.process_time()
        for _ in range(TURNS):
            redactor.text(text, Numbers())
        best = min(best, time.process_time() - began)
    return best / TURNS / (len(text.encode()) / KB) * 1e6


def main() -> None:
    """Print a table: it is linear if a row's figures are alike."""
    redactor = Redactor(built_in())
    chat = " ".join(one.text for one in planted("held-out", seed=1, each=2))
    sizes = (1, 4, 16)
    print(f"{'':12}" + "".join(f"{size:>5} kB" for size in sizes))
    for name, text in (("prose", PROSE * 200), ("planted", chat * 3)):
        row = (cost_us(redactor, text[: size * KB]) for size in sizes)
        print(f"{name:12}" + "".join(f"{one:8.0f}" for one in row))


if __name__ == "__main__":
    main()
