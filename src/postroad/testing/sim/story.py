"""The story of one seed as plain data: who sends what, who takes it how, what breaks when.

Owns: the values, so that a story can be written down, cut shorter (shrink.py) and played again. Does not own: making
one from a seed (teller.py), playing it (world.py). Each part has dice of its own, so taking one part away leaves what
the others do as it was.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from postroad.testing.sim.chaos import Blow, Spell
from postroad.testing.sim.network import Weather


class Letter(msgspec.Struct, frozen=True):
    """A message that a client wants to send."""

    token: str
    at: float
    """Seconds after the world began."""
    recipients: tuple[str, ...]
    size: int
    sender: str
    """Address that is this letter's alone; empty: the null path."""
    notify: str = ""
    """NOTIFY of each recipient; empty: not said."""
    breaks_off: bool = False
    """The client goes away in the middle of the content, the first time."""


class Sender(msgspec.Struct, frozen=True):
    """A client."""

    name: str
    address: str
    letters: tuple[Letter, ...]
    pipelines: bool = True
    tls: bool = False
    is_implicit: bool = False
    """With ``tls``: from the first octet, on the port for that."""
    breaks_tls: float = 0.0
    """Share of such connections on which the client says something else than TLS, or goes."""
    per_connection: int = 5
    tries: int = 2
    """How often a letter that was not taken for now is sent again, each time as a message of its own."""
    patience: float = 120.0
    reads_slowly: bool = False
    hangs_up_at: int = 0
    """Share in percent of letters after whose final dot the client goes without waiting for the reply."""
    chunk: int = 0
    """Octets of a chunk, where it sends by BDAT (RFC 3030); 0: it sends by DATA."""
    ends_bare: bool = False
    """With ``chunk``: its letters end without CRLF, and go on by BDAT where the next hop has that."""
    pause: float = 0.0
    """Seconds for which it stops in the middle of each content."""
    last_octets: int = 0
    """How many octets of what it sends by DATA, the final dot's included, go by themselves, after the others have come
    in; 0: all go together."""


class Peer(msgspec.Struct, frozen=True):
    """A next hop: what it does to a message, by chances; anything may be said of one."""

    name: str
    address: str
    domains: tuple[str, ...]
    well_after: float
    """Seconds after which it only takes what comes, as good hosts do; infinity: never."""
    greylists: float = 0.0
    """Seconds for which a new recipient is told 450."""
    rcpt_4xx: float = 0.0
    rcpt_5xx: float = 0.0
    """Share of recipients, for good: by their name."""
    rate_4xx: float = 0.0
    """Share of transactions refused with 451 4.7.1 at MAIL."""
    dot_4xx: float = 0.0
    dot_5xx: float = 0.0
    """The latter by the message."""
    drops_untaken: float = 0.0
    """Share of messages after whose final dot the connection breaks, not taken."""
    drops_taken: float = 0.0
    """Likewise, but taken: a duplicate is to come."""
    garbage: float = 0.0
    breaks_tls: float = 0.0
    silent: float = 0.0
    """Share of connections on which nothing is ever said."""
    slow: float = 0.0
    """Seconds until a reply, at most."""
    tls: bool = False
    dsn: bool = False
    chunking: bool = False
    pipelining: bool = True
    refuses_rset: bool = False
    """It does not know RSET, and takes whatever is said after it."""
    size_max: int = 0
    bounces_later: float = 0.0
    down: tuple[tuple[float, float], ...] = ()
    """Spans in which the host is gone."""
    cut_off: tuple[tuple[float, float], ...] = ()
    """Spans in which the relay and this host do not reach each other."""
    names_fail: float = 0.0
    """Share of DNS questions about its domains that are not answered."""
    names_slow: float = 0.0
    """Seconds until the hosts of its domains are told, at most."""


class Terms(msgspec.Struct, frozen=True):
    """Settings that a reload may change."""

    retry_first: float = 20.0
    retry_longest: float = 160.0
    expire: float = 900.0
    connections: int = 5
    messages_per_connection: int = 20
    routes: tuple[tuple[str, Literal["maildir", "discard", "reject"]], ...] = ()
    """Domains that go another way than mail to them does as a rule."""


Verb = Literal[
    "hold", "release", "flush", "delete", "bounce", "suspend", "resume", "override", "restore", "reload"
]  # fmt: skip


class Step(msgspec.Struct, frozen=True):
    """Something that a person asks of the relay, by way of the front."""

    at: float
    verb: Verb
    of: Literal["id", "to", "domain", "all", ""] = ""
    """What ``what`` is: a letter's token (its newest id, or its first recipient), a domain. Steering of queues."""
    what: str = ""
    """Or the name of a destination: suspend, resume, override, restore."""
    until: float = 0.0
    """Seconds after which it ends by itself; 0.0: never."""
    connections: int = 1
    """What an override allows."""
    terms: Terms | None = None
    """What is in force after a reload."""
    fails: bool = False
    """A reload that one of the workers cannot follow."""


class Plan(msgspec.Struct, frozen=True):
    """A story."""

    seed: int
    senders: tuple[Sender, ...]
    peers: tuple[Peer, ...]
    spells: tuple[Spell, ...]
    blows: tuple[Blow, ...]
    weather: Weather
    retry_first: float = 20.0
    retry_longest: float = 160.0
    expire: float = 900.0
    warn: float = 300.0
    connections: int = 5
    messages_per_connection: int = 20
    rate: int = 0
    """Messages a minute to one destination; 0: any number."""
    file_above: int = 8_192
    checkpoint: int = 262_144
    jumps: tuple[tuple[float, float], ...] = ()
    """The wall clock is set: at, by how many seconds."""
    places: int = 0
    """Clients that may be connected at once; 0: as many as there are."""
    places_per_ip: int = 0
    """Likewise from one address."""
    ledger_latency: float = 0.0
    """Seconds that a word between a worker and the ledger takes more than it must: the ledger is slow."""
    hangs: tuple[tuple[float, float], ...] = ()
    """The ledger is stopped, as by SIGSTOP: at, for how many seconds."""
    workers: int = 1
    has_ledger: bool = False
    """One worker asks a ledger too, as in production."""
    resizes: tuple[tuple[float, int], ...] = ()
    """At a time the relay is stopped in order, and started with so many workers: fewer, and shards are adopted."""
    unwarned: str = ""
    """A domain whose delays nobody is told of."""
    steps: tuple[Step, ...] = ()
    """What people do. With any there is a front, and in the end somebody releases what is held."""

    @property
    def terms(self) -> Terms:
        """What is in force at the beginning."""
        return Terms(self.retry_first, self.retry_longest, self.expire, self.connections, self.messages_per_connection)

    @property
    def all_terms(self) -> tuple[Terms, ...]:
        """All that may ever be in force."""
        return (self.terms, *(step.terms for step in self.steps if step.terms is not None))

    @property
    def letters(self) -> int:
        return sum(len(one.letters) for one in self.senders)
