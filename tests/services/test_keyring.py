import stat
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from feedbackloop.errors import SettingsError
from feedbackloop.events import TenantId
from services import keyring
from services.keyring import DEFAULT, LiveKeyring
from tests.builders import NOON

TENANTS = [TenantId(f"tenant-{number}") for number in range(8)]
NOW = timedelta(0)
DAY = timedelta(days=1)


def at(seconds: float) -> Callable[[], datetime]:
    """A clock that has stopped, so long after noon."""
    return lambda: NOON + timedelta(seconds=seconds)


def test_the_first_start_makes_keys_and_the_second_finds_them(tmp_path: Path) -> None:
    """Other keys after a restart would make strangers of all users and void all receipts."""
    first, second = keyring.load(tmp_path), keyring.load(tmp_path)

    assert first == second
    assert list(first) == [DEFAULT]


def test_only_the_owner_can_read_the_keys(tmp_path: Path) -> None:
    """Who reads them can forge votes and name the people behind pseudonyms."""
    keyring.load(tmp_path)

    file = keyring.path(tmp_path)

    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700


def test_keys_that_others_can_read_are_refused(tmp_path: Path) -> None:
    """A careless copy or a wrong mount is found at the start, not after the leak."""
    keyring.load(tmp_path)
    keyring.path(tmp_path).chmod(0o644)

    with pytest.raises(SettingsError, match="chmod 600"):
        keyring.load(tmp_path)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"tenants": {"default": {}}}'])
def test_a_damaged_keyring_stops_the_start(tmp_path: Path, content: bytes) -> None:
    """Making new keys in its place would destroy what a backup could still bring back."""
    keyring.load(tmp_path)
    keyring.path(tmp_path).write_bytes(content)

    with pytest.raises(SettingsError, match="cannot be read"):
        keyring.load(tmp_path)

    assert keyring.path(tmp_path).read_bytes() == content


def test_processes_that_start_at_once_agree(tmp_path: Path) -> None:
    """Sidecar and scheduler start together on a fresh machine."""
    with ThreadPoolExecutor(8) as threads:
        rings = list(threads.map(lambda _: keyring.load(tmp_path), range(8)))

    assert all(ring == rings[0] for ring in rings)
    assert [file.name for file in keyring.path(tmp_path).parent.iterdir()] == ["keyring.json"]


def test_no_tenant_is_lost_when_several_are_added_at_once(tmp_path: Path) -> None:
    """Each addition rewrites the whole file."""
    with ThreadPoolExecutor(8) as threads:
        made = list(threads.map(lambda tenant: keyring.add(tmp_path, tenant), TENANTS))

    ring = keyring.load(tmp_path)

    assert set(ring) == {DEFAULT, *TENANTS}
    assert [ring[tenant] for tenant in TENANTS] == made


def test_adding_a_tenant_twice_changes_nothing(tmp_path: Path) -> None:
    """`keys create` runs once for each key, and a tenant has many."""
    first = keyring.add(tmp_path, TENANTS[0])

    assert keyring.add(tmp_path, TENANTS[0]) == first


def test_rotation_changes_the_receipt_key_and_nothing_else(tmp_path: Path) -> None:
    """Receipts in the world stay good; people, talks and the holdout stay who they are."""
    before = keyring.load(tmp_path, now=at(0))[DEFAULT]

    current = keyring.rotate(tmp_path, DEFAULT, lead=NOW, grace=DAY, now=NOON)
    after = keyring.load(tmp_path, now=at(0))[DEFAULT]

    assert after.current == current != before.current
    assert after.receipts.items() > before.receipts.items()
    assert (after.pseudonym, after.chain, after.holdout) == (
        before.pseudonym,
        before.chain,
        before.holdout,
    )


def test_a_new_receipt_key_is_known_before_it_signs(tmp_path: Path) -> None:
    """A vote may reach another process than the one that signed."""
    old = keyring.load(tmp_path)[DEFAULT].current
    new = keyring.rotate(tmp_path, DEFAULT, lead=timedelta(minutes=1), grace=DAY, now=NOON)

    waiting, signing = (keyring.load(tmp_path, now=at(s))[DEFAULT] for s in (59, 60))

    assert (waiting.current, signing.current) == (old, new)
    assert new in waiting.receipts
    assert old in signing.receipts


def test_an_old_receipt_key_retires_after_its_grace(tmp_path: Path) -> None:
    """What it signed has expired by then, and says so."""
    old = keyring.load(tmp_path)[DEFAULT].current
    new = keyring.rotate(tmp_path, DEFAULT, lead=timedelta(minutes=1), grace=DAY, now=NOON)

    before, after = (keyring.load(tmp_path, now=at(s))[DEFAULT] for s in (86_459, 86_460))

    assert (set(before.receipts), before.retired) == ({old, new}, ())
    assert (set(after.receipts), after.retired) == ({new}, (old,))


def test_rotating_twice_in_a_row_keeps_what_was_signed(tmp_path: Path) -> None:
    """The second rotation overtakes a key that had not signed yet."""
    old = keyring.load(tmp_path)[DEFAULT].current
    keyring.rotate(tmp_path, DEFAULT, lead=timedelta(minutes=1), grace=DAY, now=NOON)
    last = keyring.rotate(tmp_path, DEFAULT, lead=timedelta(minutes=1), grace=DAY, now=at(30)())

    keys = keyring.load(tmp_path, now=at(90))[DEFAULT]

    assert keys.current == last
    assert old in keys.receipts


def test_a_receipt_key_that_leaked_is_forgotten(tmp_path: Path) -> None:
    """Whatever it signed, or could have signed, is unknown from then on."""
    old = keyring.load(tmp_path)[DEFAULT].current
    with pytest.raises(SettingsError, match="rotate first"):
        keyring.revoke(tmp_path, DEFAULT, old, now=NOON)
    new = keyring.rotate(tmp_path, DEFAULT, lead=NOW, grace=DAY, now=NOON)

    revoked, again = (keyring.revoke(tmp_path, DEFAULT, old, now=NOON) for _ in range(2))

    keys = keyring.load(tmp_path, now=at(0))[DEFAULT]
    assert (revoked, again) == (True, False)
    assert (set(keys.receipts), keys.retired) == ({new}, ())


def test_time_alone_makes_a_successor_sign(tmp_path: Path) -> None:
    """The file does not change when its hour comes."""
    clock = [NOON]
    ring = LiveKeyring(tmp_path, now=lambda: clock[0])
    new = keyring.rotate(tmp_path, DEFAULT, lead=timedelta(minutes=1), grace=DAY, now=NOON)
    ring.refresh()
    clock[0] = at(60)()

    changed = ring.refresh()

    assert not changed
    assert ring[DEFAULT].current == new


def test_a_tenant_that_nobody_added_cannot_be_rotated(tmp_path: Path) -> None:
    """A typing error must not make a tenant."""
    with pytest.raises(SettingsError, match="no tenant tenant-0: the keyring has default"):
        keyring.rotate(tmp_path, TENANTS[0], lead=NOW, grace=DAY, now=NOON)


def test_a_running_process_learns_of_new_keys(tmp_path: Path) -> None:
    """`keys create` and `keys rotate` work on a live system."""
    ring = LiveKeyring(tmp_path)
    keyring.add(tmp_path, TENANTS[0])

    before = TENANTS[0] in ring
    changed, again = ring.refresh(), ring.refresh()

    assert (before, changed, again) == (False, True, False)
    assert ring[TENANTS[0]] == keyring.load(tmp_path)[TENANTS[0]]
    assert len(ring) == 2
