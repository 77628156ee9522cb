"""Frames survive what disks do to their neighbours."""

from hypothesis import given
from hypothesis import strategies as st

from feedbackloop.log.frames import Damage, Kind, RawFrame, encode, scan

payloads = st.lists(st.binary(max_size=50), max_size=6)


def written(records: list[bytes]) -> bytes:
    frames = [encode(record, kind=Kind.RECORD, seq=n, at_ns=n) for n, record in enumerate(records)]
    return b"".join(frames)


def found(data: bytes) -> list[bytes]:
    return [one.payload for one in scan(data) if isinstance(one, RawFrame)]


@given(payloads)
def test_what_was_written_is_found(records: list[bytes]) -> None:
    """Whatever the bytes are, those of our own markers included."""
    assert found(written(records)) == records


@given(payloads, st.integers(0, 400))
def test_a_torn_tail_loses_only_what_was_torn(records: list[bytes], cut: int) -> None:
    """A crash in the middle of a write leaves the records before it."""
    data = written(records)[:cut]

    kept = found(data)

    assert kept == records[: len(kept)]
    assert len(written(records[: len(kept) + 1])) > cut or kept == records


@given(payloads.filter(len), st.data())
def test_a_flipped_byte_is_never_taken_for_a_record(
    records: list[bytes], data: st.DataObject
) -> None:
    """Damage costs the record it hits, and invents none."""
    whole = bytearray(written(records))
    where = data.draw(st.integers(0, len(whole) - 1))
    whole[where] ^= data.draw(st.integers(1, 255))

    kept = found(bytes(whole))

    assert len(kept) == len(records) - 1
    assert all(record in records for record in kept)


@given(payloads, st.binary(min_size=1, max_size=30))
def test_every_byte_is_accounted_for(records: list[bytes], junk: bytes) -> None:
    """Frames and damage cover the bytes without overlap."""
    data = written(records) + junk + written(records)

    ends = [0]
    for one in scan(data):
        assert one.start == ends[-1]
        ends.append(one.end)

    assert ends[-1] == len(data)
    assert found(data) == records * 2


def test_damage_says_where_it_is() -> None:
    """Whoever repairs it by hand has to find it."""
    data = b"junk" + written([b"one"])

    assert next(scan(data)) == Damage(start=0, end=4)
