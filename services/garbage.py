"""The collector of circles of garbage, for processes that make few and must not be held up."""

import gc


def calm() -> None:
    """Look for garbage seldom, and never at what is there now: each look stops everybody."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)
