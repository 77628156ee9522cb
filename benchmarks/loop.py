"""What the whole loop gains over several seeds, beside the base that it began with.

    python benchmarks/loop.py --seeds 1 2 3 [--json FILE]

Each seed is a demonstration of its own (another model, other people, a fresh home): about ten
minutes on two cores. The mean over seeds has Student's interval at 95 %; each seed's own interval
is over its questions. A seed whose round was refused counts as no gain, not as missing.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from math import sqrt
from pathlib import Path
from statistics import mean, stdev
from typing import Any

Json = dict[str, Any]

_SEED_SECONDS = 1_500
_T = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571, 7: 2.447, 8: 2.365, 9: 2.306, 10: 2.262}
"""Student's t at 97.5 %, by the number of seeds."""


def demonstrate(seed: int, folder: Path) -> Json:
    """Run one demonstration to its end and return its report, whatever it says."""
    report = folder / f"seed-{seed}.json"
    report.unlink(missing_ok=True)
    command = [sys.executable, "-m", "services.cli", "demo", "--seed", str(seed)]
    command += ["--folder", str(folder), "--json", str(report)]
    subprocess.run(command, timeout=_SEED_SECONDS, check=False)  # noqa: S603  # our own command
    if not report.exists():
        raise SystemExit(f"seed {seed} came to no end: see above")
    found: Json = json.loads(report.read_text())
    return found


def gains(reports: Sequence[Json]) -> list[float]:
    """Return each seed's relative gain in satisfaction; nothing shipped is nothing gained."""
    first = [report["rounds"][0] for report in reports]
    return [one["satisfaction"]["gain"]["relative"] if one["promoted"] else 0.0 for one in first]


def losses(reports: Sequence[Json]) -> list[float]:
    """Return each seed's change of capability, in points of a hundred."""
    first = [report["rounds"][0]["capability"] for report in reports]
    return [100 * (one["after"] - one["before"]) for one in first]


def summary(values: Sequence[float]) -> tuple[float, float, float]:
    """Return the mean over seeds and its interval."""
    if len(values) not in _T:
        return mean(values), float("nan"), float("nan")
    half = _T[len(values)] * stdev(values) / sqrt(len(values))
    return mean(values), mean(values) - half, mean(values) + half


def show(reports: Sequence[Json]) -> None:
    """Print one line for each seed, and the means."""
    print("seed  satisfaction      gain               capability        bad round  lost  seconds")
    for report in reports:
        good, *_, bad = report["rounds"]
        liked, able = good["satisfaction"], good["capability"]
        low, high = liked["gain"]["interval"]
        print(
            f"{report['seed']:4}  {liked['before']:.3f} -> {liked['after']:.3f}"
            f"  {liked['gain']['relative']:+.1%} ({low:+.0%}, {high:+.0%})"
            f"  {able['before']:.3f} -> {able['after']:.3f}"
            f"  {'promoted' if good['promoted'] else 'REFUSED '}"
            f"  {'PROMOTED' if bad['promoted'] else bad['verdict']}"
            f"  {report['capture_loss']}  {report['seconds']['total']:.0f}"
        )
    gain, points = summary(gains(reports)), summary(losses(reports))
    print(f"mean gain in satisfaction: {gain[0]:+.1%} ({gain[1]:+.1%} to {gain[2]:+.1%})")
    print(
        f"mean change of capability: {points[0]:+.2f} points ({points[1]:+.2f}, {points[2]:+.2f})"
    )


def main() -> None:
    """Demonstrate with each seed, then compare."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--folder", type=Path, default=Path(".demo"))
    parser.add_argument("--json", type=Path, help="where every report is written")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    reports = [demonstrate(seed, options.folder) for seed in options.seeds]
    if options.json is not None:
        options.json.write_text(json.dumps(reports, indent=1))
    show(reports)


if __name__ == "__main__":
    main()
