"""
title: feedbackloop: who asks, and what answered
description: Names the user to feedbackloop, and remembers which completion each message is.
version: 1.0
"""

import os
import sqlite3
from contextlib import closing
from typing import Any

from pydantic import BaseModel, Field

_FILE = os.path.join(os.environ.get("DATA_DIR", "."), "feedbackloop.sqlite")
_TABLE = "CREATE TABLE IF NOT EXISTS messages (message TEXT PRIMARY KEY, completion TEXT)"


class Filter:
    """Enable it for the models that the sidecar serves."""

    class Valves(BaseModel):
        file: str = Field(_FILE, description="The action's file: it reads what is written here.")

    def __init__(self) -> None:
        self.valves = self.Valves()
        self._last = ("", "")

    def inlet(self, body: dict[str, Any], __user__: dict[str, Any] | None = None) -> dict[str, Any]:
        """Say for whom the completion is."""
        if __user__:
            body["user"] = __user__["id"]
        return body

    def stream(
        self, event: dict[str, Any], __metadata__: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Note the completion's id, which is in every piece of its stream."""
        pair = (str((__metadata__ or {}).get("message_id") or ""), str(event.get("id") or ""))
        if all(pair) and pair != self._last:
            with closing(sqlite3.connect(self.valves.file)) as database, database:
                database.execute(_TABLE)
                database.execute("INSERT OR REPLACE INTO messages VALUES (?, ?)", pair)
            self._last = pair
        return event
