"""What a child counted, added up."""

from hypothesis import example, given
from hypothesis import strategies as st

from services import telemetry
from services.sidecar import report
from services.sidecar.report import Reporter


def redacted(kind: str) -> float:
    (family,) = telemetry.REDACTED.collect()
    return sum(
        one.value
        for one in family.samples
        if one.labels == {"kind": kind} and one.name.endswith("_total")
    )


def test_a_report_holds_what_was_counted_since_the_last_one() -> None:
    """Whoever adds them up may meet a new child at any time, and never counts down."""
    reporter = Reporter()
    reporter.line(oldest_at_ns=0, beats=1)
    telemetry.REDACTED.labels("email").inc(2)
    telemetry.FORWARD_ERRORS.inc()

    first = reporter.line(oldest_at_ns=7, beats=1)
    second = reporter.line(oldest_at_ns=0, beats=1)

    assert set(report.read(first).counts) == {
        report.Count("REDACTED", ("email",), 2),
        report.Count("FORWARD_ERRORS", (), 1),
    }
    assert report.read(second).counts == ()


def test_what_is_read_is_added_to_our_own() -> None:
    """A scrape of the sidecar shows one series, whatever process has counted."""
    telemetry.REDACTED.labels("iban").inc()
    line = b'{"counts":[["REDACTED",["iban"],3.0]],"oldest_at_ns":5}\n'

    found = report.read(line)

    assert (redacted("iban"), found.oldest_at_ns) == (4, 5)


@given(st.binary() | st.text().map(str.encode))
@example(b"\xff\n")
@example(b"[" * 10_000)
@example(b'{"counts":[["NOT_THERE",[],1.0]]}')
@example(b'{"counts":[["REDACTED",["a","b"],1.0]]}')
@example(b'{"counts":[["FORWARD_ERRORS",[],-1.0]]}')
@example(b'{"counts":[["described",[],1.0]]}')
def test_what_is_no_report_of_this_version_is_a_value_error(line: bytes) -> None:
    """Whoever keeps the child must not end because of a word of it."""
    try:
        found: object = report.read(line)
    except ValueError as error:
        found = error

    assert isinstance(found, report.Report | ValueError)
