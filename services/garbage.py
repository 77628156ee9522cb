"""The collector of circles of garbage, for processes that make few and must not be held up."""

import gc


def calm(thresholds: tuple[int, int, int] = (20_000, 20, 50)) -> None:
    """Look for garbage seldom, and never at what is there now: each look stops everybody.

    Args:
        thresholds: How many objects more than at the last look begin one, and how many looks at the
            generation begin one at the next.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*thresholds)
