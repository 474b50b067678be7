"""The lines of the control socket: what is refused, and that rows of any length come through."""

from __future__ import annotations

import msgspec
import pytest
from tests.units.steering_world import MESSAGES, message, message_id, recipient

from postroad.core.ids import format_id
from postroad.http.control_wire import (
    LINE_MAX,
    RECIPIENTS_MAX,
    ChangeRequest,
    HealthRequest,
    ListRequest,
    Meant,
    ShowRequest,
    StatsRequest,
    WatchRequest,
    format_error,
    format_item,
    format_meant,
    format_request,
    join_rows,
    parse_answer,
    parse_meant,
    parse_request,
    split_row,
)
from postroad.outbound.steering import ControlRefused
from postroad.spool.face import Selection

ID = format_id(message_id(1))


@pytest.mark.parametrize(
    "request_",
    [
        ListRequest(version=1, selection=Meant(to="*.example.org", state="held"), after=ID, limit=7),
        ShowRequest(version=1, id=ID),
        StatsRequest(version=1, limit=3),
        ChangeRequest(version=1, change="hold", selection=Meant(everything=True), dry_run=True),
        WatchRequest(version=1),
        HealthRequest(version=1),
    ],
    ids=lambda request: type(request).__name__,
)
def test_a_request_comes_through(request_: object) -> None:
    line = format_request(request_)  # type: ignore[arg-type]
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert parse_request(line) == request_


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"", "not a request"),
        (b"QUIT\r\n", "not a request"),
        (b"[1]", "not a request"),
        (b'{"verb":"health"}', "speaks version 1 of the control protocol, the request has version 0"),
        (b'{"version":2,"verb":"fly","height":3}', "the request has version 2"),
        (b'{"version":1}', "verb"),
        (b'{"version":1,"verb":"fly"}', "fly"),
        (b'{"version":1,"verb":"health","extra":1}', "extra"),
        (b'{"version":1,"verb":"list","limit":"many"}', "limit"),
        (b'{"version":1,"verb":"show","id":"\xff"}', "not a request"),
        (b"[" * 100_000, "not a request"),
    ],
)
def test_what_is_no_request_is_refused_with_a_sentence(line: bytes, said: str) -> None:
    with pytest.raises(ControlRefused, match=said) as refused:
        parse_request(line)
    assert refused.value.status == 2


def test_a_selection_comes_through() -> None:
    selection = Selection(ids=(message_id(1), message_id(2)), to="*@example.org", sender="<>", domain="d", state="due")
    assert parse_meant(format_meant(selection), needs_condition=True) == selection
    assert parse_meant(format_meant(Selection()), needs_condition=True) == Selection()


def test_everything_must_be_said_to_be_changed() -> None:
    """A condition that a client forgot must not become the whole queue."""
    assert parse_meant(Meant(), needs_condition=False) == Selection()
    with pytest.raises(ControlRefused, match="Nothing is selected"):
        parse_meant(Meant(), needs_condition=True)


def test_a_wrong_id_is_refused() -> None:
    with pytest.raises(ControlRefused, match="is not an id"):
        parse_meant(Meant(ids=("nonsense",)), needs_condition=True)


def test_a_message_with_many_recipients_takes_several_lines_that_fit() -> None:
    worst = [
        recipient(number, "\x01" * 254, reason="\x01" * 500, host="\x01" * 255)
        for number in range(2 * RECIPIENTS_MAX + 1)
    ]
    row = message(2, *worst)
    parts = list(split_row(row))
    assert [len(part.recipients) for part in parts] == [RECIPIENTS_MAX, RECIPIENTS_MAX, 1]
    assert max(len(format_item(part)) for part in parts) < LINE_MAX
    assert join_rows([*split_row(MESSAGES[0]), *parts, *split_row(MESSAGES[2])]) == [MESSAGES[0], row, MESSAGES[2]]


def test_an_error_is_a_sentence_and_a_status() -> None:
    line = format_error(ControlRefused("No.", 2))
    assert msgspec.json.decode(line) == {"error": "No.", "status": 2}
    answer = parse_answer(line)
    assert (answer.error, answer.status, bytes(answer.item), bytes(answer.done)) == ("No.", 2, b"", b"")
    with pytest.raises(ControlRefused, match="cannot be understood"):
        parse_answer(b"oops\n")
