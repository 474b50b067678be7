"""What a fact says to people, in lines: the words of ``postroad trace``.

Owns: a sentence for each kind of fact, the dialogue of an attempt below it. Pure. Does not own: the time and the id
before a line (whoever prints it knows whether they are wanted), which facts there are (core/facts.py).

What stands in a fact may come from a stranger: controls, line ends and marks that turn the direction of writing are
shown as escapes, and no line is longer than LINE_MAX characters.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from postroad.core import facts
from postroad.core.facts import AnyFact
from postroad.core.ids import format_id
from postroad.core.units import DAY, HOUR, KIB, MIB, MINUTE
from postroad.observe.log import format_time, printable

LINE_MAX: Final = 1000
"""Characters. The longest reply that says something has about 500."""
NAMES_MAX: Final = 5
"""Recipients, listeners or keys that a line names; then how many more there are."""


def tell(fact: AnyFact) -> str:
    """Return the fact in one line, without its time."""
    return _clean(_WORDS[type(fact)](fact))


def tell_lines(fact: AnyFact, *, dialogue: bool) -> list[str]:
    """Return the fact in one line; below it, if wanted, what was said in an attempt: seconds, who (``>``: we), what."""
    lines = [tell(fact)]
    if dialogue and isinstance(fact, facts.Attempted):
        for said in fact.dialogue:
            lines.append(_clean(f"{said.seconds:8.3f} {'>' if said.by_us else '<'} {said.text}"))
    return lines


def _clean(text: str) -> str:
    text = printable(text if len(text) <= LINE_MAX else f"{text[: LINE_MAX - 3]}...")
    return text if len(text) <= LINE_MAX else f"{text[: LINE_MAX - 3]}..."


# --- inbound ---


def _connected(fact: facts.Connected) -> str:
    return f"{fact.client} connected to {fact.listener}"


def _refused(fact: facts.Refused) -> str:
    about = f" from {_path(fact.sender)}" if fact.sender is not None else ""
    about += f" to {fact.recipient}" if fact.recipient is not None else ""
    return f"refused {fact.client} at {fact.listener}, {fact.stage.value}{about}: {fact.reply} (rule {fact.rule})"


def _received(fact: facts.Received) -> str:
    hello = f" ({fact.hello})" if fact.hello else ""
    tls = f", {fact.tls}" if fact.tls else ", no TLS"
    name = f", Message-ID {fact.message_id}" if fact.message_id else ""
    return (
        f"received from {fact.client}{hello} at {fact.listener}, {fact.protocol}{tls}: from {_path(fact.sender)} to "
        f"{_names(fact.recipients)}, {_size(fact.size)} in {fact.seconds:.3f} s (allowed by {fact.rule}){name}"
    )


def _early(fact: facts.EarlyOctets) -> str:
    return f"{fact.client} at {fact.listener} spoke before its turn, after {fact.after}"


def _broke(fact: facts.SessionBroke) -> str:
    fault = ", our fault" if fact.ours else ""
    return f"the session of {fact.client} at {fact.listener} broke{fault}: {fact.why}"


# --- outbound ---


def _attempted(fact: facts.Attempted) -> str:
    at = f" [{fact.address}]" if fact.address and fact.address != fact.host else ""
    tls = f", {fact.tls}" if fact.tls else ", no TLS" if fact.address else ""
    answer = fact.reply if fact.reply is not None else "no answer"
    count = f", {fact.recipients} recipients" if fact.recipients > 1 else ""
    return (
        f"attempted at {fact.host or fact.destination}{at} for {fact.destination}{_by(fact)}{tls}{count}, "
        f"{fact.seconds:.3f} s, ended at {fact.stage.value}: {answer}"
    )


def _plain(fact: facts.PlainAfterTlsFailure) -> str:
    return f"tried {fact.host} for {fact.destination} again without TLS: {fact.why}"


def _delivered(fact: facts.Delivered) -> str:
    by = fact.host or fact.destination
    return f"delivered to {fact.recipient}: {by}{_by(fact)} has it after {_span(fact.delay)}: {fact.reply}"


def _deferred(fact: facts.Deferred) -> str:
    by = f"{fact.host} said at {fact.stage.value}" if fact.host else f"at {fact.stage.value}"
    return (
        f"deferred for {fact.recipient}, attempt {fact.attempts}{_by(fact)}: {by}: {fact.reply}; "
        f"next try {format_time(fact.retry_at)}, in {_span(max(0.0, fact.retry_at - fact.at))}"
    )


def _bounced(fact: facts.Bounced) -> str:
    by = f"{fact.host} said at {fact.stage.value}" if fact.host else f"at {fact.stage.value}"
    return f"bounced for {fact.recipient}{_by(fact)} after {_span(fact.delay)}: {by}: {fact.reply}; a report is due"


def _expired(fact: facts.Expired) -> str:
    by = f" of {fact.host}" if fact.host else ""
    return f"expired for {fact.recipient} after {_span(fact.delay)}: last heard{by} {fact.reply}; a report is due"


def _dropped(fact: facts.Dropped) -> str:
    said = f": {fact.reply}" if fact.reply is not None else ""
    return f"dropped for {fact.recipient} by {fact.rule}, without a report{said}"


def _reported(fact: facts.Reported) -> str:
    return f"reported {fact.action} for {_names(fact.recipients)} to {fact.to}, by message {format_id(fact.report)}"


def _transferred(fact: facts.Transferred) -> str:
    return f"moved from shard {fact.from_shard} to shard {fact.to_shard} with {fact.recipients} recipients"


def _adopted(fact: facts.Adopted) -> str:
    return f"shard {fact.shard} was emptied into shard {fact.into}: {fact.messages} messages in {fact.seconds:.3f} s"


# --- steering, and the relay itself ---


def _steered(fact: facts.Steered) -> str:
    count = f" ({fact.recipients} recipients)" if fact.recipients else ""
    return f"{fact.who}: {fact.verb} {fact.selection}{count}"


def _held(fact: facts.Held) -> str:
    return f"held for {fact.recipient} by {fact.who}, until it is released"


def _released(fact: facts.Released) -> str:
    return f"released for {fact.recipient} by {fact.who}: due now"


def _started(fact: facts.Started) -> str:
    return f"started, version {fact.version}, at {_names(fact.listeners)}; {fact.waiting} recipients wait"


def _stopped(fact: facts.Stopped) -> str:
    return f"stopped: {fact.why}"


def _process_ended(fact: facts.ProcessEnded) -> str:
    return f"{_process(fact)} ended: {fact.why}"


def _process_started(fact: facts.ProcessStarted) -> str:
    return f"{_process(fact)} serves, after {fact.seconds:.3f} s"


def _reloaded(fact: facts.Reloaded) -> str:
    if fact.why:
        return f"{fact.who}: reload refused: {fact.why}"
    restart = f"; a restart is needed for {_names(fact.needs_restart)}" if fact.needs_restart else ""
    return f"{fact.who}: reloaded, {_names(fact.changed) if fact.changed else 'nothing'} changed{restart}"


def _trouble(fact: facts.Trouble) -> str:
    return f"trouble with {fact.what} {'is over' if fact.over else 'begins'}: {fact.why}"


def _incomplete(fact: facts.Incomplete) -> str:
    return fact.why


def _damaged(fact: facts.Damaged) -> str:
    return f"damaged {fact.what}, set aside: {fact.where}"


_WORDS: Final[dict[type, Callable[[Any], str]]] = {
    facts.Connected: _connected,
    facts.Refused: _refused,
    facts.Received: _received,
    facts.EarlyOctets: _early,
    facts.SessionBroke: _broke,
    facts.Attempted: _attempted,
    facts.PlainAfterTlsFailure: _plain,
    facts.Delivered: _delivered,
    facts.Deferred: _deferred,
    facts.Bounced: _bounced,
    facts.Expired: _expired,
    facts.Dropped: _dropped,
    facts.Reported: _reported,
    facts.Transferred: _transferred,
    facts.Adopted: _adopted,
    facts.Steered: _steered,
    facts.Held: _held,
    facts.Released: _released,
    facts.Started: _started,
    facts.Stopped: _stopped,
    facts.ProcessEnded: _process_ended,
    facts.ProcessStarted: _process_started,
    facts.Reloaded: _reloaded,
    facts.Trouble: _trouble,
    facts.Damaged: _damaged,
    facts.Incomplete: _incomplete,
}
"""One for each kind of fact: tests/units/test_observe_telling.py."""


# --- words ---


def _process(fact: facts.ProcessEnded | facts.ProcessStarted) -> str:
    slot = f" {fact.slot}" if fact.process == "worker" else ""
    return f"{fact.process}{slot} (pid {fact.pid})"


def _path(sender: str) -> str:
    return sender or "<>"


def _by(fact: facts.Attempted | facts.Delivered | facts.Deferred | facts.Bounced) -> str:
    return f" (by {fact.route})" if fact.route else ""


def _names(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMES_MAX} more" if len(names) > NAMES_MAX else ""
    return ", ".join(names[:NAMES_MAX]) + more


def _size(octets: int) -> str:
    if octets < 10 * KIB:
        return f"{octets} octets"
    return f"{octets / KIB:.0f} KiB" if octets < 10 * MIB else f"{octets / MIB:.0f} MiB"


def _span(seconds: float) -> str:
    """Say a time as people do: the two largest units."""
    if seconds < MINUTE:
        return f"{seconds:.3f} s" if seconds < 10 else f"{seconds:.0f} s"
    whole = int(seconds)
    if seconds < HOUR:
        return f"{whole // 60} min {whole % 60} s"
    if seconds < DAY:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 86_400} d {whole % 86_400 // 3600} h"
