"""From settings to inbound: what its sessions share, a profile for each listener, the certificates.

Owns: what [[listener]], [limits], [relay] and [tls] mean to inbound, and how another configuration takes their place
(``Inbound``: prepare and switch). Does not own: sockets and their order (worker.py), decisions (policy/relay.py).
"""

from __future__ import annotations

import ipaddress
import ssl
from collections.abc import Callable, Sequence
from functools import lru_cache

import msgspec

from postroad.config.listeners import Listener
from postroad.config.model import Settings
from postroad.config.networks import NetworkSet
from postroad.config.patterns import PatternTable
from postroad.core.faces import Clock, Limits, Outlet, Rate
from postroad.core.facts import AnyFact
from postroad.core.ids import IdMaker
from postroad.inbound.house import InboundHouse, ListenerProfile
from postroad.inbound.login import Logins
from postroad.inbound.server import InboundServer, ServerLimits
from postroad.net.listen import Serve
from postroad.net.self_signed import ensure_self_signed
from postroad.net.tls import Pair, ServerTls, as_it_is
from postroad.policy.relay import Role
from postroad.smtp.extensions import Offer
from postroad.smtp.sasl_server import MECHANISMS
from postroad.spool.face import Spool


class Silence:
    """An outlet for what another process says already: all workers watch the same certificates, one tells of them."""

    def emit(self, fact: AnyFact) -> None:
        """Say nothing."""


class PreparedInbound(msgspec.Struct, kw_only=True):
    """What settings mean to inbound: all that ``switch`` needs. Nothing of it is in force yet."""

    house: InboundHouse
    limits: ServerLimits
    tls: Callable[[], ssl.SSLContext] | None
    profiles: list[tuple[str, ListenerProfile]]
    """Of each listener, with its address as the settings write it."""


class Inbound:
    """All sessions of a worker, and the configuration that new ones get: ``switch(prepare(settings))`` for another."""

    def __init__(
        self,
        settings: Settings,
        *,
        spool: Spool,
        clock: Clock,
        outlet: Outlet,
        limits: Limits,
        time: Callable[[], float],
        read: Callable[[str], str] = as_it_is,
        slot: int = 0,
        logins: Logins | None = None,
    ) -> None:
        """``time``: the event loop's; ``read``: where the files of certificates are read, see ServerTls.

        ``slot``: the worker's, so that no two give the same id to a session. ``logins``: who is asked about
        credentials; None: nobody can log in, and no listener says so.

        Raises what ``prepare`` does.
        """
        self._parts = spool, clock, outlet, limits, time
        self._settings = settings
        self._slot = slot
        self._logins = logins
        first = self.prepare(settings, read)
        self._session_ids = first.house.session_ids = IdMaker(slot)
        self._profiles = {(address, profile.name): profile for address, profile in first.profiles}
        self.server = InboundServer(first.house, first.limits, tls=first.tls)

    def prepare(self, settings: Settings, read: Callable[[str], str] = as_it_is) -> PreparedInbound:
        """Make all that a configuration means to inbound. Changes nothing; what cannot be done fails here.

        ``read``: where the files of certificates are read, see ServerTls.

        Raises:
            CertificateError: a certificate cannot be used.
            OSError: the self-signed pair cannot be written.
        """
        spool, clock, outlet, limits, time = self._parts
        house = build_house(settings, spool, clock, outlet, limits, time)
        house.logins = self._logins
        return PreparedInbound(
            house=house,
            limits=server_limits(settings),
            tls=build_tls(settings, clock, outlet if self._slot == 0 else Silence(), time, read),
            profiles=[(str(listener.address), self._profile_of(listener, settings)) for listener in settings.listener],
        )

    def switch(self, prepared: PreparedInbound) -> None:
        """Serve new connections by what was prepared; those that are open go on as they began. Cannot fail.

        A listener that is not among the new ones keeps its profile for as long as its socket is open.
        """
        prepared.house.session_ids = self._session_ids  # an id is given once, also across a reload
        for of, old in self._profiles.items():
            self._profiles[of] = self._profile_for(*of, prepared.profiles) or old
        self.server.switch(prepared.house, prepared.limits, tls=prepared.tls)

    def _profile_for(
        self, address: str, label: str, profiles: Sequence[tuple[str, ListenerProfile]]
    ) -> ListenerProfile | None:
        """Return the new profile of a listener: by address and name, else by address where only the name is another."""
        same = {profile.name: profile for of, profile in profiles if of == address}
        renamed = [name for name in same if (address, name) not in self._profiles]
        return same.get(label) or (same[renamed[0]] if len(renamed) == 1 else None)

    def _profile_of(self, listener: Listener, settings: Settings) -> ListenerProfile:
        return profile_of(listener, settings, can_log_in=self._logins is not None)

    def serve_of(self, listener: Listener) -> Serve:
        """Return what serves the connections of a listener: by its newest profile, also after a reload."""
        of = str(listener.address), listener.label
        self._profiles.setdefault(of, self._profile_of(listener, self._settings))
        return lambda stream: self.server.serve(self._profiles[of], stream)


def build_house(
    settings: Settings, spool: Spool, clock: Clock, outlet: Outlet, limits: Limits, time: Callable[[], float]
) -> InboundHouse:
    """Return what inbound needs of the rest. ``time`` is the event loop's."""
    rate = settings.limits.client_rate
    return InboundHouse(
        spool=spool,
        clock=clock,
        outlet=outlet,
        limits=limits,
        is_trusted=trust_of(settings),
        is_ours=domains_of(settings),
        session_ids=IdMaker(0),
        hostname=settings.hostname,
        postmaster_domain=postmaster_domain(settings),
        recipients_max=settings.limits.recipients,
        hops_max=settings.limits.received_hops,
        body_file_above=settings.spool.body_file_above,
        client_rate=Rate(rate.count, rate.seconds),
        time=time,
    )


def trust_of(settings: Settings) -> Callable[[str], bool]:
    """Return what tells of a client's address whether it is in [relay] networks; a Unix socket of ours always is."""
    networks = NetworkSet(settings.relay.networks)

    @lru_cache(maxsize=4096)
    def is_trusted(address: str) -> bool:
        return address == "unix" or ipaddress.ip_address(address) in networks

    return is_trusted


def domains_of(settings: Settings) -> Callable[[str], bool]:
    """Return what tells of a domain (A-labels in lower case, or a literal) whether it is in [relay] domains."""
    table = PatternTable([settings.relay.domains])
    return lambda domain: table.first_match("", domain) is not None


def postmaster_domain(settings: Settings) -> str:
    """Return the domain of a bare ``<Postmaster>``: our first whole one, which is routed like all of its mail.

    The host name is none of [relay] domains as a rule: its mail would go by MX, and come back as a report to somebody.
    """
    whole = (one.domain for one in settings.relay.domains if one.domain and not one.subdomains)
    return next(whole, "")


def server_limits(settings: Settings) -> ServerLimits:
    """Return the bounds on sessions."""
    limits = settings.limits
    return ServerLimits(
        connections=limits.connections,
        connections_per_ip=limits.connections_per_ip,
        errors=limits.errors,
        idle_timeout=limits.idle_timeout,
        workers=settings.workers,
    )


def profile_of(listener: Listener, settings: Settings, *, can_log_in: bool = False) -> ListenerProfile:
    """Return what the sessions of one listener have in common. ``can_log_in``: there is somebody to ask about it."""
    mechanisms = MECHANISMS if can_log_in and listener.offers_auth else ()
    needs_tls = listener.auth_requires_tls
    secured = Offer(size_max=settings.limits.message_size, auth=mechanisms)
    clear = Offer(
        size_max=settings.limits.message_size,
        starttls=listener.tls == "starttls",
        auth=() if needs_tls else tuple(one for one in mechanisms if not one.endswith("-PLUS")),
        auth_after_tls=bool(mechanisms) and needs_tls,
    )
    return ListenerProfile(
        name=listener.label,
        role=Role(listener.role),
        offer=clear,
        offer_secured=secured,
        bare_newline=listener.bare_newline,
        tls=listener.tls,
    )


def build_tls(
    settings: Settings,
    clock: Clock,
    outlet: Outlet,
    time: Callable[[], float],
    read: Callable[[str], str] = as_it_is,
) -> Callable[[], ssl.SSLContext] | None:
    """Return what gives the context of the next handshake, or None where no listener has TLS.

    Without certificates in the settings, a self-signed pair in data_dir is made and used. ``read``: see ServerTls.

    Raises:
        CertificateError: a certificate cannot be used.
        OSError: the self-signed pair cannot be written.
    """
    if all(listener.tls == "off" for listener in settings.listener):
        return None
    pairs = [Pair(one.names, str(one.certificate), str(one.private_key)) for one in settings.tls.certificate]
    if not pairs:
        pairs = [ensure_self_signed(str(settings.data_dir), settings.hostname, now=clock.now())]
    return ServerTls(pairs, minimum=settings.tls.minimum, outlet=outlet, clock=clock, time=time, read=read).context
