"""What goes over the control socket: JSON, one object a line, each way.

A request is one line: ``{"version": 1, "verb": "list", "limit": 100}``. Its answer is any number of lines
``{"item": ...}``, then one ``{"done": ...}`` or ``{"error": "a sentence", "status": 1}``. An empty object says that the
relay is still at it. Requests follow one another on a connection; end of file from the client means that it is gone.

Owns: the requests, the answers, their limits. Does not own: who may ask (control_server.py), what the rows mean
(outbound/steering.py). Change a field's meaning and ``VERSION`` goes up; a new field needs a default.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, TypeVar

import msgspec

from postroad.core.ids import MessageId, format_id, parse_id
from postroad.outbound.steering import ControlRefused, MessageRow, NotThere, Unanswered
from postroad.spool.face import Selection

VERSION: Final = 1
LINE_MAX: Final = 1_048_576
"""Octets in one line, either way."""
CLIENTS_MAX: Final = 64
"""Connections at once: more than the front has turns (turns.py)."""
IDLE_TIMEOUT: Final = 60.0
"""Seconds that a client may say nothing between requests."""
WRITE_TIMEOUT: Final = 30.0
"""Seconds that a client may read nothing of its answer."""
CLOSE_TIMEOUT: Final = 1.0
"""Seconds that a client may take to read the rest when the connection ends."""
ALIVE_INTERVAL: Final = 5.0
"""Seconds of silence after which the relay says that it is still at it."""
ANSWER_TIMEOUT: Final = 20.0
"""Seconds of silence after which a client gives up: four times as long."""
WHO_MAX: Final = 100
"""Characters of a person's name in a request."""
RECIPIENTS_MAX: Final = 150
"""Recipients in one item: with REASON_MAX it keeps any line below LINE_MAX. A message with more takes several items."""

T = TypeVar("T")


class Meant(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """A selection as it is written; ``everything`` must be said, so that a forgotten condition does not mean all."""

    ids: tuple[str, ...] = ()
    to: str = ""
    sender: str = ""
    domain: str = ""
    state: str = ""
    everything: bool = False


class Request(msgspec.Struct, frozen=True, kw_only=True, tag_field="verb", forbid_unknown_fields=True):
    version: int
    who: str = ""
    """On whose behalf: the front asks for people. Empty: for whoever asks."""


class ListRequest(Request, frozen=True, kw_only=True, tag="list"):
    selection: Meant = Meant()
    after: str = ""
    limit: int = 100


class ShowRequest(Request, frozen=True, kw_only=True, tag="show"):
    id: str


class StatsRequest(Request, frozen=True, kw_only=True, tag="stats"):
    limit: int = 100


class ChangeRequest(Request, frozen=True, kw_only=True, tag="change"):
    change: str
    selection: Meant
    dry_run: bool = False


class WatchRequest(Request, frozen=True, kw_only=True, tag="watch"):
    id: str = ""
    everything: bool = False
    """Where no id is given: also facts that are about no message."""


class HealthRequest(Request, frozen=True, kw_only=True, tag="health"):
    pass


class CountersRequest(Request, frozen=True, kw_only=True, tag="counters"):
    pass


class DropsRequest(Request, frozen=True, kw_only=True, tag="drops"):
    id: str


AnyRequest = (
    ListRequest | ShowRequest | StatsRequest | ChangeRequest | WatchRequest | HealthRequest | CountersRequest
    | DropsRequest
)  # fmt: skip


class PageEnd(msgspec.Struct, frozen=True):
    """The end of a listing."""

    after: str
    """Where to go on; empty: that was all."""


class Answer(msgspec.Struct, frozen=True):
    """One line of an answer: exactly one of item, done and error is there, or nothing."""

    item: msgspec.Raw = msgspec.Raw()
    done: msgspec.Raw = msgspec.Raw()
    error: str = ""
    status: int = 0
    not_there: bool = False
    """With an error: what was named is not there."""


class _Version(msgspec.Struct):
    version: int = 0


_encoder: Final = msgspec.json.Encoder()
_request_decoder: Final[msgspec.json.Decoder[AnyRequest]] = msgspec.json.Decoder(AnyRequest)
_version_decoder: Final = msgspec.json.Decoder(_Version)
_answer_decoder: Final = msgspec.json.Decoder(Answer)
ALIVE_LINE: Final = b"{}\n"


def parse_request(line: bytes) -> AnyRequest:
    """Return what a client asks.

    Raises:
        ControlRefused: not a request of this version.
    """
    try:
        version = _version_decoder.decode(line).version
        if version != VERSION:
            raise ControlRefused(
                f"This relay speaks version {VERSION} of the control protocol, the request has version {version}. "
                "Use the command line of the same release.",
                2,
            )
        return _request_decoder.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ControlRefused(f"That is not a request: {error}.", 2) from error


def format_request(request: AnyRequest) -> bytes:
    return _encoder.encode(request) + b"\n"


def format_item(value: Any) -> bytes:
    return b'{"item":' + _encoder.encode(value) + b"}\n"


def format_done(value: Any) -> bytes:
    return b'{"done":' + _encoder.encode(value) + b"}\n"


def format_error(refused: ControlRefused) -> bytes:
    answer: dict[str, object] = {"error": refused.text, "status": refused.status}
    if isinstance(refused, NotThere):
        answer["not_there"] = True
    return _encoder.encode(answer) + b"\n"


def parse_answer(line: bytes) -> Answer:
    """Return one line of an answer; raises ControlRefused if it is none."""
    try:
        return _answer_decoder.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Unanswered(f"The relay's answer cannot be understood: {error}.") from error


def parse_value(raw: msgspec.Raw, kind: type[T]) -> T:
    """Return an item, or what was done; raises ControlRefused if it is of another kind."""
    try:
        return msgspec.json.decode(raw, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Unanswered(f"The relay's answer cannot be understood: {error}.") from error


def parse_meant(meant: Meant, *, needs_condition: bool) -> Selection:
    """Return the selection.

    Raises:
        ControlRefused: an id that is none, or no condition at all where one is needed.
    """
    selection = Selection(
        ids=tuple(parse_message_id(text) for text in meant.ids),
        to=meant.to,
        sender=meant.sender,
        domain=meant.domain,
        state=meant.state,
    )
    if needs_condition and selection == Selection() and not meant.everything:
        raise ControlRefused("Nothing is selected. Name ids or conditions, or say that everything is meant.", 2)
    return selection


def format_meant(selection: Selection) -> Meant:
    return Meant(
        ids=tuple(map(format_id, selection.ids)),
        to=selection.to,
        sender=selection.sender,
        domain=selection.domain,
        state=selection.state,
        everything=selection == Selection(),
    )


def parse_message_id(text: str) -> MessageId:
    """Return the id of a message; raises ControlRefused if it is none."""
    try:
        return MessageId(parse_id(text))
    except ValueError as error:
        raise ControlRefused(f"{error}.", 2) from error


def parse_who(text: str) -> str:
    """Return the name of a person on whose behalf a request is; raises ControlRefused if it cannot be one."""
    if len(text) > WHO_MAX or not text.isprintable():
        raise ControlRefused(f"That is not a name: at most {WHO_MAX} printable characters are.", 2)
    return text


def split_row(row: MessageRow) -> Iterator[MessageRow]:
    """Yield the row in parts of at most RECIPIENTS_MAX recipients, so that each fits into a line."""
    yield msgspec.structs.replace(row, recipients=row.recipients[:RECIPIENTS_MAX])
    for start in range(RECIPIENTS_MAX, len(row.recipients), RECIPIENTS_MAX):
        yield msgspec.structs.replace(row, recipients=row.recipients[start : start + RECIPIENTS_MAX])


def join_rows(parts: list[MessageRow]) -> list[MessageRow]:
    """Undo split_row for all rows of a page."""
    rows: list[MessageRow] = []
    for part in parts:
        if rows and rows[-1].id == part.id:
            rows[-1] = msgspec.structs.replace(rows[-1], recipients=rows[-1].recipients + part.recipients)
        else:
            rows.append(part)
    return rows
