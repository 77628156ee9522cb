"""A home folder for whoever calls a command."""

from pathlib import Path

import pytest


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give each test a home folder of its own, and nobody who answers."""
    monkeypatch.setenv("FEEDBACKLOOP_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("FEEDBACKLOOP_SCHEDULER__BIND", "127.0.0.1:1")
    monkeypatch.setenv("FEEDBACKLOOP_SIDECAR__ADMIN_BIND", "127.0.0.1:1")
    return tmp_path / "home"
