"""Settings of what may be in mail and of seeing it: [[check]], [[filter]], [log], [facts], [http].

One line a setting: default, meaning, unit, bounds. Does not own: what a check or
filter does (pipeline), what a log line says (observe).
The reference page comes from these lines: run `postroad config docs` after a change.
"""

from __future__ import annotations

import ipaddress
from typing import Annotated, Literal, Self

from pydantic import model_validator

from postroad.config.addresses import TcpAddress
from postroad.config.kinds import (
    Duration,
    Finding,
    OneOrMore,
    OptionalFilePath,
    OptionalTcpAddress,
    Size,
    Table,
    raise_findings,
    setting,
)
from postroad.core.units import DAY, GIB


class When(Table):
    """When a check or filter is asked. Empty: always."""

    listener: tuple[str, ...] = setting((), "Only mail that came in by these listeners.")
    direction: Literal["", "in", "out"] = setting("", "Only mail to our domains (in) or to others (out).")
    from_: Annotated[tuple[str, ...], OneOrMore] = setting((), "Only from these envelope senders.", alias="from")
    to: Annotated[tuple[str, ...], OneOrMore] = setting((), "Only to these recipients.")
    client: tuple[str, ...] = setting((), "Only from clients in these networks.")


class Check(Table):
    """An opinion about a session or message, asked in order."""

    use: str = setting(
        ...,
        "dnsbl, spf, dkim, dmarc, arc, greylist, rate, early_talker, reverse_dns, recipient_exists or python.",
    )
    stage: str = setting("", "Where it can choose: connect, helo, mail, rcpt, data or content.")
    zones: tuple[str, ...] = setting((), "Zones of dnsbl.")
    mode: Literal["enforce", "shadow"] = setting("enforce", "shadow: record only.")
    when: When = setting(When(), "When it is asked.")
    budget: Duration = setting(5.0, "Time it may take.", least=0)
    on_error: Literal["defer", "pass"] = setting("defer", "What happens when it fails.")


class Filter(Table):
    """Something that looks at content or changes it, asked in order."""

    use: str = setting(
        ..., "attachments, clamav, rspamd, spamassassin, milter, disclaimer, archive, sign, encrypt or python."
    )
    strip: tuple[str, ...] = setting((), "Attachments to take out, by name or type.")
    reject: tuple[str, ...] = setting((), "Attachments to refuse, by name or type.")
    mode: Literal["enforce", "shadow"] = setting("enforce", "shadow: record only.")
    when: When = setting(When(), "When it is asked.")
    budget: Duration = setting(5.0, "Time it may take.", least=0)
    on_error: Literal["defer", "pass"] = setting("defer", "What happens when it fails.")


class Log(Table):
    """The log."""

    format: Literal["logfmt", "json"] = setting("logfmt", "How a line is written.")
    level: Literal["debug", "info", "warning", "error"] = setting("info", "The least that is written.")


class Facts(Table):
    """What `postroad trace` remembers."""

    keep: Duration = setting(30 * DAY, "How long.", least=DAY)
    disk_max: Size = setting(10 * GIB, "How much.", least=0)


class Http(Table):
    """API and metrics over HTTP, for reading. Changes go by the Unix socket data_dir/control.sock, always there."""

    address: OptionalTcpAddress = setting(None, "Where to listen; empty: nowhere.", example='"127.0.0.1:8025"')
    token_file: OptionalFilePath = setting(
        None, "File with the token that readers must have; needed where address is not a loopback one."
    )

    @model_validator(mode="after")
    def _see_together(self) -> Self:
        if self.address is not None and self.token_file is None and not _is_loopback(self.address):
            text = (
                f"{self.address} can be reached from outside. Write token_file too, the name of a file with a secret "
                'of your choice, or address = "127.0.0.1:8025".'
            )
            raise_findings([Finding(("address",), text)])
        return self


def _is_loopback(address: TcpAddress) -> bool:
    return ipaddress.ip_address(address.host).is_loopback
