"""Settings of where mail goes: [next_hop.NAME], [[route]], [dns], [retry], [dsn], [[destination]], [rewrite].

One line a setting: default, meaning, unit, bounds. Owns these tables and what must
hold within one of them. Does not own: choosing (policy), what must hold between
tables (model.py).
The reference page comes from these lines: run `postroad config docs` after a change.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import model_validator

from postroad.config.kinds import (
    LATER,
    AddressPattern,
    Duration,
    DurationOrNever,
    Finding,
    Network,
    NextHopAddress,
    NotYet,
    OneOrMore,
    OptionalAddress,
    OptionalDomainPattern,
    OptionalHostName,
    OptionalIP,
    OptionalRate,
    ServerAddress,
    Table,
    ViaValue,
    raise_findings,
    setting,
)
from postroad.config.units import format_duration
from postroad.config.via import Discard, LmtpUnix, Maildir, Reject, Via
from postroad.core.units import DAY, HOUR, MINUTE

HopTls = Literal["off", "opportunistic", "required", "verified"]


class RetryChange(Table):
    """What of [retry] is different for one route or destination; None: as in [retry], bounds too."""

    first: Duration | None = setting(None, "As in [retry].", least=1, most=DAY)
    longest: Duration | None = setting(None, "As in [retry].", least=1, most=7 * DAY)
    expire: Duration | None = setting(None, "As in [retry].", least=MINUTE, most=365 * DAY)
    warn: DurationOrNever | None = setting(None, "As in [retry].", least=MINUTE)


class Retry(Table):
    """When to try again. Also inside a route or destination: retry = { ... }."""

    first: Duration = setting(5 * MINUTE, "Gap after the first failure.", least=1, most=DAY)
    longest: Duration = setting(4 * HOUR, "The gap doubles up to this.", least=1, most=7 * DAY)
    expire: Duration = setting(
        5 * DAY, "Age at which a message is given up and reported.", least=MINUTE, most=365 * DAY
    )
    warn: DurationOrNever = setting(4 * HOUR, 'Age at which the sender is told of the delay; "never".', least=MINUTE)

    @model_validator(mode="after")
    def _see_together(self) -> Self:
        if self.longest < self.first:
            longest, first = format_duration(self.longest), format_duration(self.first)
            text = f'"{longest}" is less than first ("{first}"). The gap grows from first to longest.'
            raise_findings([Finding(("longest",), text, whole=True)])
        return self

    def changed(self, change: RetryChange | None) -> Retry:
        """Return this with what ``change`` sets in place of its own."""
        if change is None:
            return self
        changes = {key: value for key, value in change if value is not None}
        return self.model_copy(update=changes)


class NextHop(Table):
    """A next hop with settings of its own, by name."""

    address: NextHopAddress = setting(
        ..., "smtp://HOST:PORT (default 25) or lmtp://HOST:PORT (default 24).", example='"smtp://smtp.a.example:587"'
    )
    tls: HopTls | None = setting(
        None,
        "off; used if offered; required; required with a certificate that verifies.",
        varies="as the route says",
        example='"verified"',
    )
    source_ip: OptionalIP = setting(None, "Address to connect from; empty: the system chooses.")
    helo: OptionalHostName = setting("", "Name to greet with; empty: the host name.")
    user: str = setting("", "User to log in as.", later=LATER)
    password_file: str = setting("", "File with the password.", later=LATER)


class Route(Table):
    """Where mail goes: the first route that matches; what matches none goes by MX."""

    to: Annotated[tuple[AddressPattern, ...], OneOrMore] = setting(
        ..., 'Recipients: "domain", "*.domain", "user@domain" or "*", or a list of these.', example='"example.org"'
    )
    from_: Annotated[tuple[AddressPattern, ...], OneOrMore] = setting(
        (), 'Only from these envelope senders; "<>" is the null sender.', alias="from", example='"*@brand.example"'
    )
    client: tuple[Network, ...] = setting((), "Only from clients in these networks.", example='["10.0.0.0/8"]')
    user: tuple[str, ...] = setting((), "Only from these users.", later=LATER)
    via: Annotated[tuple[ViaValue, ...], OneOrMore] = setting(
        ...,
        "mx, smtp://HOST:PORT, lmtp://HOST:PORT, lmtp+unix:///PATH, maildir:PATH with {user} {domain} {address} "
        "{detail}, discard:, reject:TEXT, or the name of a next hop; or a list, tried in order.",
        example='"lmtp://127.0.0.1:24"',
    )
    tls: Annotated[
        Literal["off", "opportunistic", "required", "verified", "auto", "dane"], NotYet(("auto", "dane"))
    ] = setting("opportunistic", "off; used if offered; required; required with a certificate that verifies.")
    retry: RetryChange | None = setting(
        None, "What of [retry] is different here.", varies="as in [retry]", example='{ expire = "30d" }'
    )
    backup: bool = setting(False, "Backup MX: only hosts better than ourselves.", later=LATER)
    etrn: tuple[Network, ...] = setting((), "Who may ask for the mail of this route.", later=LATER)

    @model_validator(mode="after")
    def _see_together(self) -> Self:
        found = []
        if not self.to:
            found.append(Finding(("to",), 'The list is empty, so no mail goes here. Write "*" for all.', whole=True))
        if not self.via:
            found.append(Finding(("via",), 'The list is empty. Write "mx" for the hosts of the domain.', whole=True))
        for index, value in enumerate(self.via[:-1]):
            if isinstance(value, (Discard, Reject)):
                text = f'"{value}" always has the last word, so what follows it is never tried.'
                found.append(Finding(("via", index), text))
        if self.tls in ("required", "verified") and self.via and not any(map(_may_have_tls, self.via)):
            text = f'"{self.via[0]}" has no TLS that could be {self.tls}. Leave tls out.'
            found.append(Finding(("tls",), text, whole=True))
        raise_findings(found)
        return self


class Dns(Table):
    """The resolver."""

    servers: tuple[ServerAddress, ...] = setting(
        (), "DNS servers by IP address; empty: those of /etc/resolv.conf.", example='["127.0.0.1:5353"]'
    )
    timeout: Duration = setting(5.0, "Wait for an answer.", least=0.1, most=MINUTE)
    trust_ad: Literal["loopback", "never", "always"] = setting("loopback", "Whose DNSSEC verdict counts.", later=LATER)


class Dsn(Table):
    """Delivery reports."""

    failed_bounces_to: OptionalAddress = setting(
        "", "Address that gets reports which could not be returned; empty: dropped, with a fact."
    )


class Destination(Table):
    """Limits of a destination: the first that matches. Exactly one of domain, mx and next_hop."""

    domain: OptionalDomainPattern = setting(None, "Domain of the recipients.", example='"*"')
    mx: OptionalDomainPattern = setting(None, "Name of the MX host.")
    next_hop: OptionalDomainPattern = setting(None, "Name of a next hop, or its host.")
    connections: int = setting(20, "Most connections at once.", unit="connections", least=1, most=10_000)
    messages_per_connection: int = setting(100, "Messages before a new one.", unit="messages", least=1, most=1_000_000)
    rate: OptionalRate = setting(None, "Most messages in a time; empty: any number.", example='"600/min"')
    retry: RetryChange | None = setting(
        None, "What of [retry] is different here.", varies="as in [retry]", example='{ first = "10m" }'
    )

    @model_validator(mode="after")
    def _see_together(self) -> Self:
        given = [key for key in ("domain", "mx", "next_hop") if getattr(self, key) is not None]
        if not given:
            text = 'It does not say which. Write one of domain, mx and next_hop: domain = "*".'
            raise_findings([Finding((), text, whole=True)])
        if len(given) > 1:
            text = (
                f"{given[0]} is given too, and only one of domain, mx and next_hop can be. Write two [[destination]]."
            )
            raise_findings([Finding((given[1],), text)])
        return self


class Srs(Table):
    """The Sender Rewriting Scheme, when forwarding."""

    domain: str = setting("", "Domain of rewritten senders.")
    secret_file: str = setting("", "File with the secret.")


class Rewrite(Table):
    """Address rewriting: patterns "*@old.example" = "*@new.example"."""

    sender: Mapping[str, str] = setting({}, "Envelope senders.")
    recipient: Mapping[str, str] = setting({}, "Envelope recipients.")
    aliases: str = setting("", "File of aliases.")
    srs: Srs = setting(Srs(), "The Sender Rewriting Scheme.")


def _may_have_tls(value: Via) -> bool:
    return not isinstance(value, (LmtpUnix, Maildir, Discard, Reject))
