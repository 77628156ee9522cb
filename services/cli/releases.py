"""Releases: what ought to be served, and who changed it."""

import time
from typing import Annotated, Any

import httpx
import msgspec
import typer

from feedbackloop.errors import FeedbackLoopError, PolicyServerUnavailable
from feedbackloop.promotion import changes
from feedbackloop.promotion.changes import Refused
from feedbackloop.promotion.release import encode
from services import signing
from services.cli.api import Api
from services.cli.output import Json, emit, explained, out, table
from services.cli.pods import Pod, sidecars
from services.settings import Settings, load

app = typer.Typer(help="What ought to be served under each alias.", no_args_is_help=True)
_Alias = Annotated[str, typer.Argument(help="The model name that clients use.")]
_By = Annotated[str, typer.Option(help="Who asks.")]
_Why = Annotated[str, typer.Option(help="For those who read of it later.")]
_Wait = Annotated[
    float, typer.Option("--wait", help="Seconds to wait until every sidecar follows; 0 does not.")
]
_POLL_SECONDS = 0.05


@app.command("list")
def list_releases(as_json: Json = False) -> None:
    """List what is in force for every alias."""
    with explained():
        documents = Api().get("/api/releases")
    emit(documents, as_json=as_json, show=lambda: _table(documents))


@app.command("show")
def show(alias: _Alias, as_json: Json = False) -> None:
    """List the documents of an alias, newest first."""
    with explained():
        documents = Api().get(f"/api/releases/{alias}")
    emit(documents, as_json=as_json, show=lambda: _table(documents))


@app.command("promote")
def promote(
    alias: _Alias, by: _By = "operator", why: _Why = "", wait: _Wait = 30, as_json: Json = False
) -> None:
    """Make the canary stable."""
    _move(alias, "promote", {"by": by, "why": why}, wait=wait, as_json=as_json)


@app.command("rollback")
def rollback(
    alias: _Alias,
    by: _By = "operator",
    why: _Why = "",
    wait: _Wait = 30,
    directly: Annotated[
        bool,
        typer.Option("--directly", help="Tell the sidecars: scheduler, log or database are away."),
    ] = False,
    as_json: Json = False,
) -> None:
    """Make the previous release stable again."""
    if directly:
        _roll_back_directly(alias, by=by, why=why, wait=wait, as_json=as_json)
    else:
        _move(alias, "rollback", {"by": by, "why": why}, wait=wait, as_json=as_json)


@app.command("freeze")
def freeze(alias: _Alias, by: _By = "operator", why: _Why = "", as_json: Json = False) -> None:
    """Stop everything that moves forward; the way back stays open."""
    _move(alias, "freeze", {"by": by, "why": why}, wait=0, as_json=as_json)


@app.command("unfreeze")
def unfreeze(alias: _Alias, by: _By = "operator", why: _Why = "", as_json: Json = False) -> None:
    """Allow moves forward again."""
    _move(alias, "unfreeze", {"by": by, "why": why}, wait=0, as_json=as_json)


def _move(alias: str, move: str, body: dict[str, str], *, wait: float, as_json: bool) -> None:
    with explained():
        settings = load()
        started = time.monotonic()
        document = Api(settings).post(f"/api/releases/{alias}/{move}", body)
        seconds = None
        if wait > 0:
            _follow(settings, document, deadline=started + wait)
            seconds = round(time.monotonic() - started, 3)
    result = {"document": document, "seconds": seconds}
    followed = "" if seconds is None else f"; every sidecar follows after {seconds:g} s"
    said = f"{document['alias']}: {document['why']}{followed}"
    emit(result, as_json=as_json, show=lambda: out.print(said, markup=False))


def _roll_back_directly(alias: str, *, by: str, why: str, wait: float, as_json: bool) -> None:
    """Sign the way back, and give it to every sidecar."""
    with explained():
        settings = load()
        started = time.monotonic()
        pods = [Pod(url, settings) for url in sidecars(settings)]
        before = max((pod.document(alias) for pod in pods), key=lambda found: found.epoch)
        after = changes.rollback(before, by=by, why=why)
        if isinstance(after, Refused) and before.canary is not None:
            after = changes.take_back(before, quarantine=True, by=by, why=why)
        if isinstance(after, Refused):
            raise FeedbackLoopError(after.reason)
        signed = signing.sign(settings.home, encode(after))
        for pod in pods:
            pod.follow(signed)
        document = msgspec.to_builtins(after)
        if wait > 0:
            _follow(settings, document, deadline=started + wait)
        seconds = round(time.monotonic() - started, 3)
    result = {"document": _without_probes(document), "seconds": seconds}
    said = f"{alias}: {after.why}, on {len(pods)} sidecars by hand, after {seconds:g} s"
    emit(result, as_json=as_json, show=lambda: out.print(said, markup=False))


def _without_probes(document: dict[str, Any]) -> dict[str, Any]:
    kept = {name: document[name] for name in ("stable", "canary", "previous") if document[name]}
    return document | {
        name: {field: value for field, value in one.items() if field != "probes"}
        for name, one in kept.items()
    }


def _follow(settings: Settings, document: dict[str, Any], *, deadline: float) -> None:
    """Wait until every sidecar serves what the document says."""
    waiting = sidecars(settings)
    while waiting:
        waiting = [url for url in waiting if not _follows(url, document)]
        if waiting and time.monotonic() > deadline:
            raise PolicyServerUnavailable(
                f"epoch {document['epoch']} is written, but not followed by {', '.join(waiting)}"
            )
        if waiting:
            time.sleep(_POLL_SECONDS)


def _follows(url: str, document: dict[str, Any]) -> bool:
    try:
        report = httpx.get(f"{url}/v1/releases", timeout=2, trust_env=False).json()
        alias = report["aliases"][document["alias"]]
        return bool(
            alias["epoch"] >= document["epoch"] and alias["stable"] == document["stable"]["name"]
        )
    except (httpx.HTTPError, ValueError, KeyError, TypeError):
        return False


def _table(documents: list[dict[str, Any]]) -> None:
    columns = ("alias", "epoch", "stable", "canary", "share", "previous", "by", "why")
    rows = [
        (
            d["alias"],
            d["epoch"],
            d["stable"]["name"],
            (d["canary"] or {}).get("name"),
            f"{d['canary_share']:.0%}" if d["canary"] else "",
            (d["previous"] or {}).get("name"),
            d["by"],
            d["why"] + (" (frozen)" if d["frozen"] else ""),
        )
        for d in documents
    ]
    table(columns, rows)
