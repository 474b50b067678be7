"""Settings of what comes in: [process], [names], [[listener]], [tls], [limits], [spool].

One line a setting: default, meaning, unit, bounds. Owns these tables and what must
hold within one of them. Does not own: what must hold between tables (model.py).
The reference page comes from these lines: run `postroad config docs` after a change.
"""

from __future__ import annotations

from typing import Literal, Self

from pydantic import field_validator, model_validator

from postroad.config.addresses import UnixAddress
from postroad.config.kinds import (
    IP,
    LATER,
    Duration,
    FilePath,
    Finding,
    HostName,
    ListenAddress,
    Network,
    OptionalHostName,
    RateValue,
    Size,
    Table,
    raise_findings,
    setting,
)
from postroad.config.patterns import parse_domain_pattern
from postroad.config.units import Rate
from postroad.core.units import GIB, HOUR, KIB, MIB, MINUTE

Role = Literal["mx", "submission", "lmtp"]
ListenerTls = Literal["off", "starttls", "implicit"]


class Process(Table):
    """The process itself."""

    user: str = setting("", "Who to become once sockets and secrets are open; empty: stay who we are.")
    group: str = setting(
        "", "Group to be in, whose members may use the control socket; empty: the user's own, and nobody more may."
    )
    file_limit: int = setting(65_536, "Most open files of each process.", unit="files", least=1024, most=1_048_576)
    drain: Duration = setting(30.0, "How long a stop waits for work in hand.", least=0, most=HOUR)

    @model_validator(mode="after")
    def _see_together(self) -> Self:
        if self.group and not self.user:
            text = "A group without a user changes nothing. Write user too, or leave group out."
            raise_findings([Finding(("group",), text)])
        return self


class Names(Table):
    """Who we are, for loops, local mail and backup MX behind NAT."""

    other_hostnames: tuple[HostName, ...] = setting((), "Further host names that are ours: an MX of that name is us.")
    other_addresses: tuple[IP, ...] = setting((), "Further IP addresses that are ours, such as the outside of a NAT.")
    origin: OptionalHostName = setting(
        "",
        "Domain added to bare addresses from trusted clients; empty: the host name.",
        example='"example.org"',
        later=LATER,
    )


class Listener(Table):
    """One socket on which mail comes in. Without any: 127.0.0.1:2525, role submission."""

    address: ListenAddress = setting(..., "Where to listen.", example='"0.0.0.0:25"')
    name: str = setting("", "What logs and facts call it; empty: its address.", example='"outside"')
    role: Role = setting(
        "submission",
        "mx: anyone may send to [relay] domains, trusted networks and users may relay; submission: trusted networks "
        "and users only, strangers get 530, Date and Message-ID are added; lmtp: [relay] domains only, by LMTP "
        "(RFC 2033).",
    )
    tls: ListenerTls = setting("starttls", "off, STARTTLS offered, or TLS from the first octet.")
    auth: bool | None = setting(None, "Offer AUTH.", varies="true for submission, false for mx", example="true")
    auth_requires_tls: bool = setting(True, "AUTH neither offered nor taken in clear text.")
    bare_newline: Literal["refuse", "normalize"] = setting(
        "refuse", "What to do with a bare CR or LF in content; normalize only where clients are known."
    )
    proxy_protocol_from: tuple[Network, ...] = setting((), "PROXY accepted, and required, from these.", later=LATER)
    xclient_from: tuple[Network, ...] = setting((), "Clients that may speak for another (XCLIENT).", later=LATER)
    xforward_from: tuple[Network, ...] = setting((), "Clients that may tell who theirs was (XFORWARD).", later=LATER)

    @field_validator("name", mode="after")
    @classmethod
    def _see_name(cls, name: str) -> str:
        if not name.isprintable() or len(name) > 64:
            raise ValueError("A name is at most 64 printable characters.")
        return name

    @model_validator(mode="after")
    def _see_together(self) -> Self:
        found = []
        if self.bare_newline == "normalize" and self.role == "mx":
            found.append(
                Finding(
                    ("bare_newline",),
                    'A listener of role "mx" is open to strangers, who could smuggle mail past it. Write '
                    'bare_newline = "refuse", or give the old devices a listener of role "submission".',
                )
            )
        if self.tls == "off" and self.auth and self.auth_requires_tls:
            found.append(
                Finding(
                    ("auth",),
                    'With tls = "off" and auth_requires_tls, AUTH could never be used. Write tls = "starttls".',
                )
            )
        if self.role == "lmtp" and self.auth:
            found.append(Finding(("auth",), "By LMTP nobody relays, so nobody logs in. Write auth = false."))
        if self.tls == "implicit" and isinstance(self.address, UnixAddress):
            found.append(Finding(("tls",), 'A Unix socket has no TLS from the first octet. Write tls = "off".'))
        raise_findings(found)
        return self

    @property
    def offers_auth(self) -> bool:
        """True if clients may log in here, perhaps by TLS alone."""
        if self.tls == "off" and self.auth_requires_tls:
            return False
        return self.role == "submission" if self.auth is None else self.auth

    @property
    def label(self) -> str:
        """Its name, or its address where none was given."""
        return self.name or str(self.address)


class Certificate(Table):
    """One certificate and its key."""

    names: tuple[str, ...] = setting(
        (),
        'Names it is used for (SNI), "*.example.org" for all directly below; the first certificate is the default.',
        example='["relay.example.org"]',
    )
    certificate: FilePath = setting(
        ..., "PEM file, chain included; read again when it changes.", example='"tls/fullchain.pem"'
    )
    private_key: FilePath = setting(..., "PEM file with the private key.", example='"tls/key.pem"')

    @field_validator("names", mode="after")
    @classmethod
    def _see_names(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        patterns = [parse_domain_pattern(name) for name in names]
        if any(pattern.is_any for pattern in patterns):
            raise ValueError('"*" is no name of a certificate. Leave names out for the default one.')
        return tuple(map(str, patterns))


class Tls(Table):
    """TLS of all listeners. Without a certificate: a self-signed pair in data_dir."""

    minimum: Literal["1.2", "1.3"] = setting("1.2", "Oldest version of TLS.")
    client_ca: str = setting("", "PEM file: ask for client certificates signed by these.", later=LATER)
    certificate: tuple[Certificate, ...] = setting((), "Certificates, chosen by the name the client asks for.")


class Limits(Table):
    """Limits for the whole relay."""

    message_size: Size = setting(50 * MIB, "Largest message; announced as SIZE (RFC 1870).", least=64 * KIB)
    recipients: int = setting(1000, "Most recipients in one transaction.", unit="recipients", least=100, most=100_000)
    connections: int = setting(10_000, "Most connections at once.", unit="connections", least=1, most=1_000_000)
    connections_per_ip: int = setting(
        50,
        "Most connections of one IPv4 address or IPv6 /64; trusted networks, and who has logged in by TLS, are not "
        "counted.",
        unit="connections",
        least=1,
        most=1_000_000,
    )
    client_rate: RateValue = setting(
        Rate(1000, 60), "Messages of one client; trusted networks, and who has logged in, are not counted."
    )
    errors: int = setting(10, "Errors in one session before 421.", unit="errors", least=1, most=1000)
    idle_timeout: Duration = setting(5 * MINUTE, "Wait for a command; shrinks under load.", least=10, most=HOUR)
    received_hops: int = setting(
        50, "Received fields that mean a loop (RFC 5321 section 6.3).", unit="fields", least=10, most=1000
    )


class Spool(Table):
    """The durable queue on disk."""

    min_free: Size = setting(GIB, "With less free on the disk, clients get 452.", least=0)
    body_file_above: Size = setting(
        256 * KIB, "Larger messages go to a file beside the database.", least=KIB, most=4 * MIB
    )
