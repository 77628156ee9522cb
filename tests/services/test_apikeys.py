"""Keys: shown once, kept as hashes."""

from pathlib import Path

import pytest

from feedbackloop.errors import RequestError, SettingsError
from feedbackloop.events import TenantId
from services.apikeys import ApiKeys, create, listed, revoke
from tests.builders import NOON

TENANT = TenantId("acme")


def a_key(path: Path) -> str:
    text, _ = create(path, tenant=TENANT, scopes=("completions",), created_at=NOON)
    return text


def test_a_key_says_whose_it_is(tmp_path: Path) -> None:
    """The tenant is never taken from what a client writes."""
    keys = ApiKeys(tmp_path / "keys.json", required=True)
    text = a_key(tmp_path / "keys.json")

    caller = keys.caller(f"Bearer {text}", "completions")

    assert caller.tenant == TENANT


def test_the_file_holds_no_key(tmp_path: Path) -> None:
    """A stolen file opens nothing."""
    path = tmp_path / "keys.json"

    text = a_key(path)

    assert text not in path.read_text()
    assert text.split("_", 2)[2] not in path.read_text()
    assert path.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer x", "Basic x", "Bearer fl_00000000_x"])
def test_who_has_no_key_is_not_let_in(tmp_path: Path, header: str) -> None:
    """Not even for knowing the form."""
    keys = ApiKeys(tmp_path / "keys.json", required=True)
    a_key(tmp_path / "keys.json")

    with pytest.raises(RequestError) as caught:
        keys.caller(header, "completions")

    assert (caught.value.status, caught.value.code) == (401, "invalid_api_key")


def test_a_right_id_with_a_wrong_secret_is_not_let_in(tmp_path: Path) -> None:
    """The id is no secret: it is in lists and logs."""
    keys = ApiKeys(tmp_path / "keys.json", required=True)
    text = a_key(tmp_path / "keys.json")

    with pytest.raises(RequestError) as caught:
        keys.caller(f"Bearer {text[:-1]}", "completions")

    assert caught.value.status == 401


def test_a_key_opens_its_scopes_only(tmp_path: Path) -> None:
    """A chat's key must not drain a server."""
    keys = ApiKeys(tmp_path / "keys.json", required=True)
    text = a_key(tmp_path / "keys.json")

    with pytest.raises(RequestError) as caught:
        keys.caller(f"Bearer {text}", "admin")

    assert (caught.value.status, caught.value.code) == (403, "missing_scope")


def test_a_revoked_key_is_refused_at_once(tmp_path: Path) -> None:
    """Without a restart."""
    path = tmp_path / "keys.json"
    keys = ApiKeys(path, required=True)
    text = a_key(path)
    keys.caller(f"Bearer {text}", "completions")

    revoked = revoke(path, listed(path)[0].id)

    assert revoked
    with pytest.raises(RequestError):
        keys.caller(f"Bearer {text}", "completions")


def test_revoking_twice_says_so(tmp_path: Path) -> None:
    """A typo in an id must not look like success."""
    a_key(tmp_path / "keys.json")

    revoked = revoke(tmp_path / "keys.json", "00000000")

    assert not revoked


def test_without_required_keys_everybody_is_the_default_tenant(tmp_path: Path) -> None:
    """On a laptop."""
    caller = ApiKeys(tmp_path / "keys.json", required=False).caller("", "feedback")

    assert caller.tenant == "default"


def test_a_damaged_file_names_itself(tmp_path: Path) -> None:
    """An operator can mend a file that has a name."""
    path = tmp_path / "keys.json"
    path.write_text("{")

    with pytest.raises(SettingsError, match=r"keys\.json"):
        listed(path)
