"""
title: feedbackloop: thumbs
description: Two buttons under each answer, whose votes train the next adapter.
version: 1.0
"""

import asyncio
import os
import sqlite3
import uuid
from base64 import b64encode
from collections.abc import Awaitable, Callable
from contextlib import closing
from typing import Any

import httpx
from pydantic import BaseModel, Field

_FILE = os.path.join(os.environ.get("DATA_DIR", "."), "feedbackloop.sqlite")
_LATER = (429, 503)
_TRIES = 3


def _icon(sign: str) -> str:
    size = 'xmlns="http://www.w3.org/2000/svg" viewBox="0 0 24 24"'
    svg = f'<svg {size}><text y="20">{sign}</text></svg>'
    return "data:image/svg+xml;base64," + b64encode(svg.encode()).decode()


class Action:
    """Enable it together with the filter, for the same models."""

    class Valves(BaseModel):
        url: str = Field("http://localhost:8080", description="The sidecar.")
        key: str = Field("", description="An API key with the scope feedback.")
        file: str = Field(_FILE, description="The filter's file.")

    actions = [
        {"id": "up", "name": "Good answer", "icon_url": _icon("👍")},
        {"id": "down", "name": "Bad answer", "icon_url": _icon("👎")},
    ]

    def __init__(self) -> None:
        self.valves = self.Valves()

    async def action(
        self,
        body: dict[str, Any],
        __id__: str = "up",
        __user__: dict[str, Any] | None = None,
        __event_emitter__: Callable[[dict[str, Any]], Awaitable[None]] | None = None,
    ) -> None:
        """Vote on the message that the button belongs to."""
        said = await self._vote(str(body["id"]), __id__, __user__ or {})
        if __event_emitter__ is not None:
            kind = "error" if said else "success"
            data = {"type": kind, "content": said or "Thank you."}
            await __event_emitter__({"type": "notification", "data": data})

    async def _vote(self, message: str, thumb: str, user: dict[str, Any]) -> str:
        """Return what went wrong, or nothing."""
        completion = self._completion(message)
        if completion is None:
            return "This answer cannot be voted on: it did not come through feedbackloop."
        vote = {"completion_id": completion, "thumb": thumb, "user": user.get("id")}
        headers = {"Idempotency-Key": str(uuid.uuid4())}
        if self.valves.key:
            headers["Authorization"] = f"Bearer {self.valves.key}"
        async with httpx.AsyncClient(base_url=self.valves.url, headers=headers) as client:
            for wait in range(_TRIES):
                reply = await client.post("/v1/feedback", json=vote)
                if reply.status_code not in _LATER:
                    break
                await asyncio.sleep(wait)
        return "" if reply.is_success else str(reply.json()["error"]["message"])

    def _completion(self, message: str) -> str | None:
        try:
            with closing(sqlite3.connect(self.valves.file)) as database:
                query = "SELECT completion FROM messages WHERE message = ?"
                found = database.execute(query, (message,)).fetchone()
        except sqlite3.OperationalError:
            return None
        return found[0] if found else None
