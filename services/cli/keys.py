"""API keys: who may call, for which tenant."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, get_args

import typer

from feedbackloop.capture.identity import TenantKeys
from feedbackloop.errors import FeedbackLoopError, SettingsError
from feedbackloop.events import TenantId
from services import apikeys, keyring
from services.apikeys import ApiKey, Scope
from services.cli.output import Json, emit, explained, out, table
from services.settings import Settings, load

app = typer.Typer(help="Who may call, and for which tenant.", no_args_is_help=True)


_UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
_NEVER = "never"


@app.command("create")
def create(  # one for each thing that a key is known by
    tenant: Annotated[str, typer.Option(help="Whose data it is.")] = "default",
    scope: Annotated[
        list[str] | None,
        typer.Option(help="completions, feedback or admin; repeatable; the first two by default."),
    ] = None,
    name: Annotated[str, typer.Option(help="What it is for.")] = "",
    expires: Annotated[str, typer.Option(help="After 90d, 12h, 30m; or never.")] = _NEVER,
    per_minute: Annotated[
        int | None, typer.Option(min=1, help="Requests a minute, instead of the settings' limit.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Make a key. It is shown once, here, and kept only as a hash."""
    with explained():
        scopes = _scopes(scope or ["completions", "feedback"])
        now = datetime.now(UTC)
        ends = None if expires == _NEVER else now + _duration("--expires", expires)
        settings = load()
        keyring.add(settings.home, _tenant(tenant))
        text, key = apikeys.create(
            _file(settings),
            tenant=TenantId(tenant),
            scopes=scopes,
            created_at=now,
            expires_at=ends,
            name=name,
            per_minute=per_minute,
        )
    _show_key(text, key, as_json=as_json)


@app.command("list")
def list_keys(
    receipts: Annotated[
        bool, typer.Option("--receipts", help="The keys that sign receipts, instead.")
    ] = False,
    as_json: Json = False,
) -> None:
    """List the keys by their ids."""
    with explained():
        settings = load()
        if receipts:
            found = list(_receipt_keys(keyring.load(settings.home)))
        else:
            found = [_shown(key) for key in apikeys.listed(_file(settings))]
    columns = tuple(found[0]) if found else ("id",)
    rows = [[_text(value) for value in one.values()] for one in found]
    emit(found, as_json=as_json, show=lambda: table(columns, rows))


@app.command("revoke")
def revoke(
    key_id: str,
    tenant: Annotated[
        str, typer.Option(help="Whose receipt key, if the id is of one.")
    ] = "default",
    as_json: Json = False,
) -> None:
    """Forget a key: whoever uses it is refused from then on.

    Revoking a receipt key makes every completion id that it signed unknown: for one that leaked.
    """
    with explained():
        settings = load()
        if _RECEIPT_KEY.fullmatch(key_id):
            now = datetime.now(UTC)
            done = keyring.revoke(settings.home, _tenant(tenant), key_id, now=now)
        else:
            done = apikeys.revoke(_file(settings), key_id)
        if not done:
            raise FeedbackLoopError(f"there is no key {key_id}")
    emit({"revoked": key_id}, as_json=as_json, show=lambda: out.print(f"{key_id} is revoked"))


@app.command("rotate")
def rotate(
    tenant: Annotated[str, typer.Option(help="Whose receipts.")] = "default",
    key: Annotated[str, typer.Option(help="Replace this API key instead, by its id.")] = "",
    lead: Annotated[
        str, typer.Option(help="How long processes get to learn a receipt key before it signs.")
    ] = "60s",
    grace: Annotated[
        str, typer.Option(help="How long the old key goes on: 30d for receipts, 1d for API keys.")
    ] = "",
    as_json: Json = False,
) -> None:
    """Replace a key by a new one; what the old one signed or opens stays good for a while."""
    with explained():
        settings = load()
        now = datetime.now(UTC)
        if key:
            made = apikeys.replace(
                _file(settings), key, grace=_duration("--grace", grace or "1d"), now=now
            )
            if made is None:
                raise FeedbackLoopError(f"there is no key {key}")
            _show_key(*made, as_json=as_json)
            return
        lasts = timedelta(seconds=settings.keys.receipt_lifetime_seconds)
        wait = _duration("--lead", lead)
        current = keyring.rotate(
            settings.home,
            _tenant(tenant),
            lead=wait,
            grace=_duration("--grace", grace) if grace else lasts,
            now=now,
        )
    said = f"receipts of {tenant} are signed with key {current} in {wait.total_seconds():.0f} s"
    emit({"tenant": tenant, "current": current}, as_json=as_json, show=lambda: out.print(said))


_RECEIPT_KEY = re.compile(r"[0-9a-f]{4}")


def _show_key(text: str, key: ApiKey, *, as_json: bool) -> None:
    made = {"key": text, **_shown(key)}
    emit(made, as_json=as_json, show=lambda: out.print(text, markup=False, highlight=False))


def _shown(key: ApiKey) -> dict[str, object]:
    return {
        "id": key.id,
        "name": key.name,
        "tenant": key.tenant,
        "scopes": key.scopes,
        "created_at": key.created_at,
        "expires_at": key.expires_at,
        "per_minute": key.per_minute,
    }


def _receipt_keys(tenants: dict[TenantId, TenantKeys]) -> Iterator[dict[str, object]]:
    """Yield each receipt key with what it does now, and until when."""
    for tenant, keys in sorted(tenants.items()):
        for name in keys.receipts:
            does = "signs" if name == keys.current else "verifies"
            from_ = keys.succeeds_at if name == keys.successor else None
            ends = keys.ends.get(name)
            yield {"id": name, "tenant": tenant, "does": does, "signs_from": from_, "ends_at": ends}


def _text(value: object) -> str:
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M}"
    return ", ".join(value) if isinstance(value, tuple) else "" if value is None else str(value)


def _file(settings: Settings) -> Path:
    return settings.home / "keys" / "api-keys.json"


def _tenant(name: str) -> TenantId:
    if not re.fullmatch(r"[a-z0-9-]{1,32}", name):
        raise SettingsError(f"--tenant {name}: expected up to 32 of a to z, 0 to 9 and -")
    return TenantId(name)


def _duration(option: str, text: str) -> timedelta:
    found = re.fullmatch(r"(\d{1,6})([smhd])", text)
    if found is None:
        raise SettingsError(f"{option} {text}: expected a number and s, m, h or d, such as 90d")
    return timedelta(seconds=int(found[1]) * _UNITS[found[2]])


def _scopes(names: list[str]) -> list[Scope]:
    known: dict[str, Scope] = {scope: scope for scope in get_args(Scope)}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise SettingsError(f"--scope {unknown[0]}: expected one of {', '.join(known)}")
    return [known[name] for name in names]
