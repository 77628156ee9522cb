"""What the doctor says about those who may call."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from feedbackloop.events import TenantId
from services import apikeys
from services.cli.__main__ import app

NOW = datetime.now(UTC)


@pytest.fixture(autouse=True)
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give each test a home, a model for one tenant, and a file of keys."""
    variables = {
        "HOME": str(tmp_path),
        "KEYS__REQUIRED": "true",
        "ALIASES__ASSISTANT__BASE": "base",
        "ALIASES__ASSISTANT__TENANTS": '["acme"]',
    }
    for name, value in variables.items():
        monkeypatch.setenv(f"FEEDBACKLOOP_{name}", value)
    return tmp_path / "keys" / "api-keys.json"


def a_key(file: Path, tenant: str, *, days: float | None) -> str:
    """Make a key that ends in so many days; return its id."""
    ends = None if days is None else NOW + timedelta(days=days)
    _, key = apikeys.create(
        file,
        tenant=TenantId(tenant),
        scopes=("completions",),
        created_at=NOW - timedelta(days=100),
        expires_at=ends,
    )
    return key.id


def findings() -> Mapping[str, tuple[str, str]]:
    told = json.loads(CliRunner().invoke(app, ["doctor", "--json"]).stdout)
    return {one["check"]: (one["outcome"], one["says"]) for one in told}


def test_damaged_segments_and_a_disk_smaller_than_the_spool_may_grow_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both are seen long before they cost a vote."""
    monkeypatch.setenv("FEEDBACKLOOP_SIDECAR__SPOOL_DISK_BYTES", str(2**60))
    (tmp_path / "spool" / "sidecar-0").mkdir(parents=True)
    (tmp_path / "spool" / "sidecar-0" / "1.seg.damaged").touch()

    outcome, says = findings()["spool"]

    assert outcome == "warn"
    assert "SPOOL_DISK_BYTES" in says
    assert "1 damaged segments" in says


@pytest.mark.parametrize("days", [-1, None])
def test_a_house_without_a_good_key_is_warned(file: Path, days: float | None) -> None:
    """None at all, or none that has not ended."""
    if days is not None:
        a_key(file, "acme", days=days)

    outcome, says = findings()["api keys"]

    assert outcome == "warn"
    assert "keys create" in says


def test_a_key_that_ends_soon_is_named(file: Path) -> None:
    """Before the app that uses it stands still."""
    soon, later = a_key(file, "acme", days=3), a_key(file, "acme", days=60)

    outcome, says = findings()["api keys"]

    assert outcome == "warn"
    assert soon in says
    assert later not in says


def test_keys_that_last_are_fine(file: Path) -> None:
    """Those that ended are counted apart."""
    a_key(file, "acme", days=None)
    a_key(file, "acme", days=-1)

    assert findings()["api keys"] == ("ok", "1 good, 1 expired")


@pytest.mark.parametrize(("tenant", "outcome"), [("acme", "ok"), ("amce", "warn")])
def test_a_model_that_nobody_can_ask_for_is_named(file: Path, tenant: str, outcome: str) -> None:
    """A tenant's name is easily mistyped, and then the model does not exist for anyone."""
    a_key(file, tenant, days=None)

    found, says = findings()["tenants"]

    assert found == outcome
    assert outcome == "ok" or "assistant is for acme" in says
