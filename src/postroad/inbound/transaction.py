"""Answers the events of one session: who may send what to whom, and the put that makes 250 true.

One method per event. Legality was decided by the engine; permission is policy/relay.py's;
durability is the spool's. This file brings them together and decides nothing of its own. A check or a slow disk simply
makes an answer late: the engine is PAUSED until then.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from postroad.core import facts, reply
from postroad.core.address import Mailbox, Path
from postroad.core.envelope import Client, Envelope, Recipient
from postroad.core.ids import MessageId, SessionId, format_id
from postroad.core.outcome import Stage
from postroad.core.reply import Reply
from postroad.inbound.content import ContentCollector
from postroad.inbound.house import InboundHouse, ListenerProfile
from postroad.inbound.login import Login, without_plus
from postroad.mail import headers, received, submission
from postroad.policy.relay import Denied, Role, may_reach, may_send
from postroad.smtp.events import (
    Auth,
    AuthResponse,
    ChunkEnd,
    DataEnd,
    DataStart,
    Event,
    Expand,
    Hello,
    HelloVerb,
    Help,
    MailFrom,
    Noop,
    Quit,
    RcptTo,
    Reset,
    StartTls,
    Verify,
)
from postroad.smtp.extensions import Offer, ehlo_reply
from postroad.spool.face import NewMessage, SpoolRefused, Why

HEADER_TOO_LONG: Final = reply.TOO_BIG.with_text("The header is too long to be looked through for Bcc")

_SPOOL_REPLIES: Final = {
    Why.FULL: reply.DISK_FULL,
    Why.TROUBLE: reply.LOCAL_TROUBLE,
    Why.BUSY: reply.LOCAL_TROUBLE.with_text("Too much to write at this moment, try again later"),
    Why.CLOSED: reply.SHUTTING_DOWN,
}


class Transactions:
    """All transactions of one session, one after the other."""

    def __init__(
        self,
        house: InboundHouse,
        profile: ListenerProfile,
        session: SessionId,
        address: str,
        *,
        binding: Callable[[], bytes] = bytes,
        on_login: Callable[[], None] = lambda: None,
    ) -> None:
        """``binding``: the channel's, see Stream; ``on_login``: called at each login that succeeds."""
        self._house = house
        self._profile = profile
        self._session = session
        self._address = address
        self._trusted = house.is_trusted(address)
        self._binding = binding
        self._on_login = on_login
        self._login = Login(house.logins, house.client_key(address), binding, is_trusted=self._trusted)
        self.hurry = self._login.hurry  # nothing else here ever waits by itself
        self._hello = ""
        self._verb = HelloVerb.HELO
        self._tls = ""
        self._clear()

    def _clear(self) -> None:
        self._mail: MailFrom | None = None
        self._recipients: list[Recipient] = []
        self._rule = ""
        self._collector: ContentCollector | None = None
        self._message = MessageId(0)
        self._envelope: Envelope | None = None
        self._hops = 0
        self._header_too_long = False
        self._message_id = ""
        self._begun = 0.0

    @property
    def is_idle(self) -> bool:
        """True while no content is coming in: nothing is lost to the client but commands (RFC 5321 section 3.8)."""
        return self._collector is None

    # --- what the session tells us ---

    async def answer(self, event: Event) -> Reply | list[Reply]:
        """Return the reply to one event; for LMTP's end of content one for each accepted recipient."""
        match event:
            case RcptTo():
                return await self._on_recipient(event)
            case DataEnd() | ChunkEnd():
                return await self._on_content_end(event)
            case MailFrom():
                return await self._on_mail(event)
            case DataStart():
                self._begin_content()
                return reply.READY_FOR_DATA
            case Hello():
                return await self._on_hello(event)
            case Reset():
                await self._abandon()
                return reply.OK
            case Quit():
                return reply.BYE
            case Noop():
                return reply.OK
            case Verify():
                return reply.CANNOT_VERIFY
            case Expand():
                return reply.NOT_SUPPORTED
            case Help():
                return reply.HELP
            case StartTls():
                return reply.TLS_NOT_AVAILABLE
            case Auth() | AuthResponse():
                return await self._on_auth(event)
            case _:
                raise AssertionError(event)

    async def take(self, octets: bytes) -> None:
        """Take some of the content."""
        if self._collector is None:
            self._begin_content()
        assert self._collector is not None
        await self._collector.take(octets)

    async def end(self) -> None:
        """The session is over: an unfinished message is forgotten, also on disk."""
        await self._abandon()
        await self._login.settle()

    def secured(self, tls: str) -> None:
        """TLS is active: what was said before does not count (RFC 3207 section 4.2)."""
        self._tls = tls
        self._hello = ""
        self._login.forget()
        self._clear()

    def refused(self, answer: Reply) -> None:
        """The engine refused a command, or a line of an exchange, which is over then."""
        self._login.break_off()
        self._emit_refused(answer, Stage.HELLO if self._mail is None else Stage.RCPT, "rfc5321")

    def early(self, after: str) -> None:
        """Octets came where RFC 2920 section 3.1 allows none."""
        self._house.outlet.emit(
            facts.EarlyOctets(
                at=self._house.clock.now(),
                session=self._session,
                listener=self._profile.name,
                client=self._address,
                after=after,
            )
        )

    # --- one method per event ---

    async def _on_hello(self, event: Hello) -> Reply:
        await self._abandon()
        self._hello, self._verb = event.name, event.verb
        if event.verb is HelloVerb.HELO:
            return Reply(250, None, self._house.hostname)
        return ehlo_reply(self._house.hostname, self.offer())

    def offer(self) -> Offer:
        """Return the extensions that this client is offered now."""
        if not self._tls:
            return self._profile.offer
        offer = self._profile.offer_secured
        return offer if not offer.auth or self._binding() else without_plus(offer)

    async def _on_auth(self, event: Auth | AuthResponse) -> Reply:
        answer, rule = await self._login.answer(event)
        if rule:
            self._emit_refused(answer, Stage.AUTH, rule, user=self._login.tried)
            return answer
        if self._login.user is not None and self._tls:  # without TLS it is forgotten if STARTTLS follows
            self._on_login()
        return answer

    async def _on_mail(self, event: MailFrom) -> Reply:
        house = self._house
        verdict = may_send(self._profile.role, event.sender, is_trusted=self._trusted, shown=self._login.shown)
        if isinstance(verdict, Denied):
            return self._refuse(verdict.reply, Stage.MAIL, verdict.rule, sender=event.sender)
        if (why := house.spool.refusing()) is not None:
            return self._refuse(_SPOOL_REPLIES[why], Stage.MAIL, f"spool.{why.value}", sender=event.sender)
        if not self._trusted and self._login.shown is None and house.client_rate is not None:
            wait = await house.limits.take_tokens(f"in:{house.client_key(self._address)}", house.client_rate)
            if wait:
                return self._refuse(reply.TOO_MUCH_MAIL, Stage.MAIL, "limits.client_rate", sender=event.sender)
        self._clear()
        self._mail = event
        self._begun = house.time()
        return reply.SENDER_OK

    async def _on_recipient(self, event: RcptTo) -> Reply:
        house, recipient = self._house, event.recipient
        if len(self._recipients) >= house.recipients_max:
            return self._refuse(reply.TOO_MANY_RECIPIENTS, Stage.RCPT, "limits.recipients", recipient=recipient)
        verdict = may_reach(
            self._profile.role,
            recipient.mailbox,
            is_ours=house.is_ours,
            is_trusted=self._trusted,
            shown=self._login.shown,
        )
        if isinstance(verdict, Denied):
            return self._refuse(verdict.reply, Stage.RCPT, verdict.rule, recipient=recipient)
        if not recipient.mailbox.domain:  # a bare Postmaster: ours (RFC 5321 section 4.1.1.3)
            domain = house.postmaster_domain or (house.hostname if self._trusted else "")
            if not domain:
                return self._refuse(reply.NO_POSTMASTER, Stage.RCPT, "relay.domains", recipient=recipient)
            ours = Mailbox(recipient.mailbox.local_part, domain)
            recipient = Recipient(ours, recipient.notify, recipient.original)
        self._rule = self._rule or verdict.rule
        self._recipients.append(recipient)
        return reply.RECIPIENT_OK

    def _begin_content(self) -> None:
        spool = self._house.spool
        self._message = message = spool.new_id()
        self._envelope = self._make_envelope()
        self._collector = ContentCollector(
            self._make_head,
            lambda: spool.begin_body(message),
            file_above=self._house.body_file_above,
            room=self._house.room,
        )

    def _make_head(self, held: bytes) -> bytes:
        """Return the head of the message as we keep it: our trace field first (RFC 5321 section 4.4)."""
        house, envelope = self._house, self._envelope
        assert envelope is not None
        now = house.clock.now()
        self._hops = headers.count_received(held)
        if self._profile.role is Role.SUBMISSION:
            try:
                held = submission.mend(held, self._message, hostname=house.hostname, now=now)
            except submission.HeaderTooLong:  # the client hears of it at the end of its content, not before
                self._header_too_long = True
        self._message_id = headers.message_id(held)
        return received.format_received(envelope, self._message, hostname=house.hostname, now=now) + held

    async def _on_content_end(self, event: DataEnd | ChunkEnd) -> Reply | list[Reply]:
        if isinstance(event, ChunkEnd) and not event.last:
            if event.too_big:
                return await self._end_refused(reply.TOO_BIG, "limits.message_size")
            return reply.OK.with_text(f"{event.size} octets so far")
        if self._collector is None:
            self._begin_content()
        if event.too_big:
            answer = await self._end_refused(reply.TOO_BIG, "limits.message_size")
        else:
            answer = await self._keep()
        count = len(self._recipients)
        self._clear()
        return [answer] * count if self._profile.role is Role.LMTP else answer

    async def _keep(self) -> Reply:
        """Put the message; the reply tells what became of it."""
        house, collector = self._house, self._collector
        assert collector is not None
        assert self._envelope is not None
        try:
            collector.complete_head()
            if self._hops > house.hops_max:
                return await self._end_refused(reply.LOOP, "limits.received_hops")
            if self._header_too_long:
                return await self._end_refused(HEADER_TOO_LONG, "submission.header")
            content = await collector.finish()
            now = house.clock.now()
            message = NewMessage(id=self._message, envelope=self._envelope, content=content, received_at=now)
            await house.spool.put(message)
        except SpoolRefused as refusal:
            return await self._end_refused(_SPOOL_REPLIES[refusal.why], f"spool.{refusal.why.value}")
        self._emit_received(message, collector.size, now)
        return reply.QUEUED.with_text(f"Queued as {format_id(self._message)}")

    def _make_envelope(self) -> Envelope:
        mail = self._mail
        assert mail is not None
        protocol = received.protocol_type(
            lmtp=self._verb is HelloVerb.LHLO,
            extended=self._verb is not HelloVerb.HELO,
            tls=bool(self._tls),
            authenticated=self._login.shown is not None,
            smtputf8=mail.smtputf8,
        )
        client = Client(
            address=self._address,
            hello=self._hello,
            protocol=protocol,
            listener=self._profile.name,
            user=self._login.name,
            tls=self._tls,
        )
        return Envelope(
            sender=mail.sender,
            recipients=tuple(self._recipients),
            client=client,
            body=mail.body,
            smtputf8=mail.smtputf8,
            ret=mail.ret,
            envelope_id=mail.envelope_id,
            size_declared=mail.size,
        )

    # --- ends and facts ---

    async def _abandon(self) -> None:
        collector, self._collector = self._collector, None
        if collector is not None:
            await collector.discard()
        self._clear()

    async def _end_refused(self, answer: Reply, rule: str) -> Reply:
        collector, self._collector = self._collector, None
        if collector is not None:
            await collector.discard()
        return self._refuse(answer, Stage.DOT, rule)

    def _refuse(
        self,
        answer: Reply,
        stage: Stage,
        rule: str,
        *,
        sender: Path = None,
        recipient: Recipient | None = None,
    ) -> Reply:
        self._emit_refused(answer, stage, rule, sender=sender, recipient=recipient)
        return answer

    def _emit_refused(
        self,
        answer: Reply,
        stage: Stage,
        rule: str,
        *,
        sender: Path = None,
        recipient: Recipient | None = None,
        user: str = "",
    ) -> None:
        shown = sender if self._mail is None else self._mail.sender
        self._house.outlet.emit(
            facts.Refused(
                at=self._house.clock.now(),
                session=self._session,
                listener=self._profile.name,
                client=self._address,
                stage=stage,
                reply=answer,
                rule=rule,
                sender=str(shown) if shown is not None else None,
                recipient=str(recipient.mailbox) if recipient else None,
                message=self._message or None,
                user=user or self._login.name,
            )
        )

    def _emit_received(self, message: NewMessage, size: int, now: float) -> None:
        envelope = message.envelope
        self._house.outlet.emit(
            facts.Received(
                at=now,
                message=message.id,
                session=self._session,
                listener=self._profile.name,
                client=self._address,
                hello=self._hello,
                protocol=envelope.client.protocol,
                tls=self._tls,
                sender="" if envelope.sender is None else str(envelope.sender),
                recipients=tuple(str(recipient.mailbox) for recipient in envelope.recipients),
                size=size,
                seconds=self._house.time() - self._begun,
                rule=self._rule,
                message_id=self._message_id,
                user=self._login.name,
            )
        )
