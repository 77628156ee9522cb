"""API keys: who may call, for which tenant."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, get_args

import typer

from feedbackloop.errors import FeedbackLoopError, SettingsError
from feedbackloop.events import TenantId
from services import apikeys, keyring
from services.apikeys import Scope
from services.cli.output import Json, emit, explained, out, table
from services.settings import Settings, load

app = typer.Typer(help="Who may call, and for which tenant.", no_args_is_help=True)


@app.command("create")
def create(
    tenant: Annotated[str, typer.Option(help="Whose data it is.")] = "default",
    scope: Annotated[
        list[str] | None,
        typer.Option(help="completions, feedback or admin; repeatable; the first two by default."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Make a key. It is shown once, here, and kept only as a hash."""
    with explained():
        scopes = _scopes(scope or ["completions", "feedback"])
        settings = load()
        keyring.add(settings.home, TenantId(tenant))
        text, key = apikeys.create(
            _file(settings),
            tenant=TenantId(tenant),
            scopes=scopes,
            created_at=datetime.now(UTC),
        )
    made = {"key": text, "id": key.id, "tenant": tenant, "scopes": key.scopes}
    emit(made, as_json=as_json, show=lambda: out.print(text, markup=False, highlight=False))


@app.command("list")
def list_keys(as_json: Json = False) -> None:
    """List the keys by their ids."""
    with explained():
        keys = apikeys.listed(_file(load()))
    rows = [(k.id, k.tenant, ", ".join(k.scopes), k.created_at.isoformat()) for k in keys]
    columns = ("id", "tenant", "scopes", "created")
    shown = [{"id": k.id, "tenant": k.tenant, "scopes": k.scopes} for k in keys]
    emit(shown, as_json=as_json, show=lambda: table(columns, rows))


@app.command("revoke")
def revoke(key_id: str, as_json: Json = False) -> None:
    """Forget a key: whoever uses it is refused from then on."""
    with explained():
        if not apikeys.revoke(_file(load()), key_id):
            raise FeedbackLoopError(f"there is no key {key_id}")
    emit({"revoked": key_id}, as_json=as_json, show=lambda: out.print(f"{key_id} is revoked"))


@app.command("rotate")
def rotate(
    tenant: Annotated[str, typer.Option(help="Whose receipts.")] = "default",
    as_json: Json = False,
) -> None:
    """Sign new receipts with a new key; those that were issued stay good."""
    with explained():
        current = keyring.rotate(load().home, TenantId(tenant))
    said = f"receipts of {tenant} are signed with key {current} within seconds"
    emit({"tenant": tenant, "current": current}, as_json=as_json, show=lambda: out.print(said))


def _file(settings: Settings) -> Path:
    return settings.home / "keys" / "api-keys.json"


def _scopes(names: list[str]) -> list[Scope]:
    known: dict[str, Scope] = {scope: scope for scope in get_args(Scope)}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise SettingsError(f"--scope {unknown[0]}: expected one of {', '.join(known)}")
    return [known[name] for name in names]
