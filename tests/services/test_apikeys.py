"""Keys: shown once, kept as hashes."""

from datetime import timedelta
from pathlib import Path

import pytest

from feedbackloop.errors import RequestError, SettingsError
from feedbackloop.events import TenantId
from services.apikeys import ApiKeys, create, listed, replace, revoke
from tests.builders import NOON

TENANT = TenantId("acme")


class Clock:
    """Seconds since 1970, from noon on, as long as nobody turns it."""

    def __init__(self) -> None:
        self.seconds = NOON.timestamp()

    def __call__(self) -> float:
        return self.seconds


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


def test_a_revoked_key_is_refused_without_a_restart(tmp_path: Path) -> None:
    """The file is looked at again a fifth of a second later."""
    path = tmp_path / "keys.json"
    clock = Clock()
    keys = ApiKeys(path, required=True, clock=clock)
    text = a_key(path)
    keys.caller(f"Bearer {text}", "completions")

    revoked = revoke(path, listed(path)[0].id)
    clock.seconds += 0.2

    assert revoked
    with pytest.raises(RequestError):
        keys.caller(f"Bearer {text}", "completions")


def test_a_new_key_works_at_once(tmp_path: Path) -> None:
    """Whoever made it tries it in the same minute."""
    path = tmp_path / "keys.json"
    keys = ApiKeys(path, required=True, clock=Clock())
    a_key(path)
    with pytest.raises(RequestError):
        keys.caller("Bearer fl_00000000_x", "completions")

    caller = keys.caller(f"Bearer {a_key(path)}", "completions")

    assert caller.tenant == TENANT


def test_a_key_ends_when_it_was_said_to(tmp_path: Path) -> None:
    """A contractor's key is nobody's task to remember."""
    path = tmp_path / "keys.json"
    clock = Clock()
    keys = ApiKeys(path, required=True, clock=clock)
    ends = NOON + timedelta(hours=1)
    text, _ = create(path, tenant=TENANT, scopes=("completions",), created_at=NOON, expires_at=ends)
    keys.caller(f"Bearer {text}", "completions")

    clock.seconds += 3_600

    with pytest.raises(RequestError, match="expired") as caught:
        keys.caller(f"Bearer {text}", "completions")
    assert caught.value.status == 401


def test_a_replaced_key_works_beside_the_new_one_for_a_while(tmp_path: Path) -> None:
    """Apps are deployed one by one."""
    path = tmp_path / "keys.json"
    clock = Clock()
    keys = ApiKeys(path, required=True, clock=clock)
    old = a_key(path)

    made = replace(path, listed(path)[0].id, grace=timedelta(hours=1), now=NOON)

    assert made is not None
    new, kept = made
    assert (kept.tenant, kept.scopes) == (TENANT, ("completions",))
    assert {keys.caller(f"Bearer {key}", "completions").tenant for key in (old, new)} == {TENANT}
    clock.seconds += 3_600
    assert keys.caller(f"Bearer {new}", "completions").key == kept.id
    with pytest.raises(RequestError):
        keys.caller(f"Bearer {old}", "completions")


def test_what_is_not_there_cannot_be_replaced(tmp_path: Path) -> None:
    """A typo in an id must not make a key."""
    a_key(tmp_path / "keys.json")

    assert replace(tmp_path / "keys.json", "00000000", grace=timedelta(0), now=NOON) is None
    assert len(listed(tmp_path / "keys.json")) == 1


def test_spellings_of_one_key_do_not_fill_the_memory(tmp_path: Path) -> None:
    """A client may write as many spaces as it likes."""
    keys = ApiKeys(tmp_path / "keys.json", required=True)
    text = a_key(tmp_path / "keys.json")

    callers = {keys.caller(f"Bearer {' ' * n}{text}", "completions").key for n in range(5_000)}

    assert len(callers) == 1
    assert len(keys._known) <= 4_096  # noqa: SLF001  # what it keeps is not to be seen otherwise


def test_revoking_twice_says_so(tmp_path: Path) -> None:
    """A typo in an id must not look like success."""
    a_key(tmp_path / "keys.json")

    revoked = revoke(tmp_path / "keys.json", "00000000")

    assert not revoked


def test_without_required_keys_everybody_is_the_default_tenant(tmp_path: Path) -> None:
    """On a laptop."""
    caller = ApiKeys(tmp_path / "keys.json", required=False).caller("", "feedback")

    assert caller.tenant == "default"


@pytest.mark.parametrize("content", [b"{", b'["\xff"]', b"[" * 10_000, None])
def test_a_file_that_cannot_be_read_stops_the_start(tmp_path: Path, content: bytes | None) -> None:
    """An operator can mend a file that has a name."""
    path = tmp_path / "keys.json"
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)

    with pytest.raises(SettingsError, match=r"keys\.json"):
        ApiKeys(path, required=True)


def test_a_file_that_is_damaged_meanwhile_takes_nobodys_key_away(tmp_path: Path) -> None:
    """A slip of an editor, or a disk that fails, must not lock everybody out."""
    path = tmp_path / "keys.json"
    clock = Clock()
    keys = ApiKeys(path, required=True, clock=clock)
    header = f"Bearer {a_key(path)}"
    keys.caller(header, "completions")
    good = path.read_bytes()

    path.write_bytes(b"[{")
    clock.seconds += 1
    kept = keys.caller(header, "completions")
    path.unlink()
    path.write_bytes(good.replace(b"acme", b"other"))
    clock.seconds += 1
    mended = keys.caller(header, "completions")

    assert (kept.tenant, mended.tenant) == ("acme", "other")
