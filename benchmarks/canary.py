"""How often the canary's rule is right: simulated rollouts, beside looking at a z-test daily.

``python -m benchmarks.canary`` prints the two tables of ``docs/releases.md``.
"""

import argparse
import math
import random
from statistics import median

from feedbackloop.promotion.betting import FRACTIONS

STABLE_RATE = 0.2
CONTROLS = 9
ALPHA = 0.05


class Bet:
    """One e-process, block by block: the same arithmetic as ``betting.e_value``."""

    def __init__(self, *, null: float, sign: int) -> None:
        self._stakes = [sign * fraction / (1 + abs(null)) for fraction in FRACTIONS]
        self._null = null
        self._wealth = [1.0] * len(FRACTIONS)

    def rejects(self, block: float) -> bool:
        """Take one more block, and say whether the bound is rejected now."""
        self._wealth = [
            have * (1 + stake * (block - self._null))
            for have, stake in zip(self._wealth, self._stakes, strict=True)
        ]
        return sum(self._wealth) / len(self._wealth) >= 1 / ALPHA


def draw(rng: random.Random, rate: float) -> tuple[int, int]:
    """Draw one canary unit and its controls: how many of each were dissatisfied."""
    controls = sum(rng.random() < STABLE_RATE for _ in range(CONTROLS))
    return int(rng.random() < rate), controls


def harm(rng: random.Random, rate: float, *, horizon: int) -> tuple[int | None, int | None]:
    """Say at which canary unit betting, and a z-test every 20 units, would roll back."""
    bet = Bet(null=0.0, sign=1)
    by_bet: int | None = None
    by_z: int | None = None
    bad = bad_controls = 0
    for unit in range(1, horizon + 1):
        canary, controls = draw(rng, rate)
        bad, bad_controls = bad + canary, bad_controls + controls
        if by_bet is None and bet.rejects(canary - controls / CONTROLS):
            by_bet = unit
        if by_z is None and unit % 20 == 0 and z_score(bad, bad_controls, unit) > 1.645:
            by_z = unit
        if by_bet and by_z:
            break
    return by_bet, by_z


def z_score(bad: int, bad_controls: int, units: int) -> float:
    """Compare two shares the usual way, which allows for one look only."""
    pooled = (bad + bad_controls) / (units * (1 + CONTROLS))
    spread = math.sqrt(pooled * (1 - pooled) * (1 / units + 1 / (units * CONTROLS)))
    return (bad - bad_controls / CONTROLS) / units / spread if spread else 0.0


def rollout(rng: random.Random, rate: float, *, cap: int, margin: float) -> tuple[str, int]:
    """Play one rollout under both tests at once: how it ends, and after how many units."""
    worse, fine = Bet(null=0.0, sign=1), Bet(null=margin, sign=-1)
    for unit in range(1, cap + 1):
        canary, controls = draw(rng, rate)
        block = canary - controls / CONTROLS
        # Both take every block, whichever speaks first.
        harmed, harmless = worse.rejects(block), fine.rejects(block)
        if harmed:
            return "rollback", unit
        if harmless:
            return "promote", unit
    return "inconclusive", cap


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    runs: int = options.runs
    print(f"{runs} runs each, seed {options.seed}, stable rate {STABLE_RATE}, alpha {ALPHA}\n")
    print("| canary's true rate | z-test every 20 units | betting | median units |")
    print("| --- | --- | --- | --- |")
    for rate in (0.2, 0.25, 0.3, 0.4):
        ends = [harm(rng, rate, horizon=2_000) for _ in range(runs)]
        units = [bet for bet, _ in ends if bet is not None]
        peeking = sum(z is not None for _, z in ends) / runs
        middle = f"{median(units):.0f}" if len(units) > runs / 2 else "-"
        print(f"| {rate:.2f} | {peeking:.1%} | {len(units) / runs:.1%} | {middle} |")
    print("\n| truth | rollback | promote | inconclusive | median units |")
    print("| --- | --- | --- | --- | --- |")
    for shift in (-0.05, 0.0, 0.02, 0.05, 0.1):
        outcomes = [rollout(rng, STABLE_RATE + shift, cap=1_000, margin=0.05) for _ in range(runs)]
        shares = [
            sum(end == name for end, _ in outcomes) / runs
            for name in ("rollback", "promote", "inconclusive")
        ]
        typical = median(units for _, units in outcomes)
        print(f"| {shift:+.2f} | " + " | ".join(f"{s:.1%}" for s in shares) + f" | {typical:.0f} |")


if __name__ == "__main__":
    main()
