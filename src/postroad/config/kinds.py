"""What a line of the model is made of: kinds of values, and the marks a line carries.

Owns: `Table` (what every table of the file is), `setting()` (one line: default,
meaning, unit, bounds, "not in this version") and the kinds of values that are
written as text. Does not own: any setting (model.py and the files beside it), the
grammar of a kind (units.py, addresses.py, via.py, patterns.py).

To build what is marked "not in this version" is to delete its mark: `later=...` of
a key or table, `NotYet(...)` of a value.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import Annotated, Any, Final

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, GetCoreSchemaHandler, ValidationInfo
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from postroad.config.addresses import (
    FdAddress,
    IPAddress,
    IPNetwork,
    ListenTo,
    TcpAddress,
    UnixAddress,
    anchor_unix,
    parse_host_name,
    parse_ip,
    parse_listen_address,
    parse_network,
    parse_server_address,
)
from postroad.config.errors import KeyPath
from postroad.config.patterns import Pattern, parse_domain_pattern, parse_pattern
from postroad.config.units import (
    Rate,
    format_duration,
    format_size,
    parse_duration,
    parse_rate,
    parse_size,
)
from postroad.config.via import VIA_TYPES, Lmtp, NextHopName, Smtp, Via, anchor_via, parse_next_hop, parse_via
from postroad.core.address import AddressError, parse_mailbox

LATER: Final = "refused"
"""A mark: the key is not in this version, whatever its value."""
LATER_BUT_DEFAULT: Final = "refused unless default"
"""A mark: the key is not in this version, but may be set to its default, which says what is so anyway."""

FROM_TOML: Final = {"from": "toml"}
"""The validation context of values that come from a file: what is written as text must be text."""

DNS_PORT: Final = 53


class Table(BaseModel):
    """One table of the configuration file. Values never change once made."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, populate_by_name=True)


def setting(
    default: Any,
    meaning: str,
    *,
    unit: str = "",
    least: float | None = None,
    most: float | None = None,
    later: str = "",
    example: str = "",
    varies: str = "",
    alias: str | None = None,
) -> Any:
    """One line of the model.

    ``meaning`` is a sentence for the reference page; ``unit`` of a plain number;
    ``least`` and ``most`` in seconds, octets or ``unit``; ``example`` as written in TOML, for
    what has no default worth showing; ``varies`` says what the default is where that is no
    one value; ``alias`` where the key is a word of Python.
    """
    extra: dict[str, Any] = {"unit": unit, "later": later, "example": example, "varies": varies}
    extra |= {"least": least, "most": most}
    return Field(default, description=meaning, ge=least, le=most, alias=alias, json_schema_extra=extra)


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of value that is written as text in the file.

    ``shown`` undoes ``parse``. ``anchor`` takes a relative path in the text from a folder.
    """

    name: str
    parse: Callable[[str], Any]
    types: tuple[type, ...]
    example: str
    shown: Callable[[Any], str] = str
    anchor: Callable[[str, PurePath], str] | None = None
    is_number: bool = False
    otherwise: str = ""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        if self.is_number:  # so that bounds apply to the number
            return core_schema.with_info_before_validator_function(self._value, handler(source))
        return core_schema.with_info_plain_validator_function(self._value)

    def _value(self, raw: Any, info: ValidationInfo) -> Any:
        if isinstance(raw, str):
            return self.parse(raw)
        if info.context is not FROM_TOML and isinstance(raw, self.types):
            return raw
        raise ValueError(self.otherwise or f'A {self.name} is written in quotes, such as "{self.example}".')


@dataclass(frozen=True, slots=True)
class NotYet:
    """Values that the contract has and this version has not."""

    values: tuple[str, ...]

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self._checked, handler(source))

    def _checked(self, value: str) -> str:
        if value in self.values:
            raise ValueError(f'"{value}" is not in this version.')
        return value


@dataclass(frozen=True, slots=True)
class Finding:
    """Something wrong between several values.

    ``at``: where, from the table that found it. ``whole``: it would not be so, perhaps, if the other keys of
    that table were right. ``depends``: the same of further keys, from the top.
    """

    at: KeyPath
    text: str
    whole: bool = False
    depends: tuple[KeyPath, ...] = ()


def raise_findings(findings: list[Finding]) -> None:
    """Raise what was found, if anything, in a form that config/load.py takes apart again."""
    if findings:
        text = " ".join(finding.text for finding in findings)
        raise PydanticCustomError("findings", "{text}", {"text": text, "findings": tuple(findings)})


def _parse_path(text: str) -> Path:
    if not text or "\0" in text:
        raise ValueError('The path is empty. Write one such as "/var/lib/postroad".')
    return Path(text)


def _anchor_path(text: str, base: PurePath) -> str:
    return str(base / text) if text else text


def _parse_address(text: str) -> str:
    try:
        mailbox = parse_mailbox(text)
    except AddressError as error:
        raise ValueError(f'"{text}" is not an address. Write one such as "postmaster@example.org".') from error
    return str(mailbox)


def _or_empty(parse: Callable[[str], Any], empty: Any) -> Callable[[str], Any]:
    return lambda text: parse(text) if text else empty


def _parse_duration_or_never(text: str) -> float:
    return parse_duration(text, never=True)


def _parse_dns_server(text: str) -> TcpAddress:
    return parse_server_address(text, port_default=DNS_PORT)


def _parse_tcp_address(text: str) -> TcpAddress:
    address = parse_listen_address(text)
    if not isinstance(address, TcpAddress):
        raise ValueError(f'"{text}" is not an IP address and port. Write one such as "127.0.0.1:8025".')  # noqa: TRY004 - pydantic's
    return address


def _shown_or_empty(value: Any) -> str:
    return "" if value is None else str(value)


def _shown_address(hop: Smtp | Lmtp) -> str:
    return str(replace(hop, next_hop=None))


def _one_or_more(raw: Any) -> Any:
    return raw if isinstance(raw, (tuple, list)) else (raw,)


_NONE: Final = type(None)
_SHARES: Final = 'Write text in quotes, such as "mx". Shares ({ share = ... }) are not in this version.'

DURATION: Final = Kind("duration", parse_duration, (float, int), "5m", format_duration, is_number=True)
NEVER_ALLOWED: Final = Kind(
    'duration or "never"', _parse_duration_or_never, (float, int), "4h", format_duration, is_number=True
)
SIZE: Final = Kind("size", parse_size, (int,), "10MiB", format_size, is_number=True)

Duration = Annotated[float, DURATION]
DurationOrNever = Annotated[float, NEVER_ALLOWED]
Size = Annotated[int, SIZE]
RateValue = Annotated[Rate, Kind("rate", parse_rate, (Rate,), "600/min")]
OptionalRate = Annotated[
    Rate | None, Kind("rate", _or_empty(parse_rate, None), (Rate, _NONE), "600/min", _shown_or_empty)
]
FilePath = Annotated[Path, Kind("path", _parse_path, (Path,), "/var/lib/postroad", anchor=_anchor_path)]
HostName = Annotated[str, Kind("name", parse_host_name, (), "relay.example.org")]
OptionalHostName = Annotated[str, Kind("name", _or_empty(parse_host_name, ""), (), "relay.example.org")]
OptionalAddress = Annotated[str, Kind("address", _or_empty(_parse_address, ""), (), "postmaster@example.org")]
ListenAddress = Annotated[
    ListenTo,
    Kind(
        "socket address", parse_listen_address, (TcpAddress, UnixAddress, FdAddress), "0.0.0.0:25", anchor=anchor_unix
    ),
]
OptionalTcpAddress = Annotated[
    TcpAddress | None,
    Kind("address", _or_empty(_parse_tcp_address, None), (TcpAddress, _NONE), "127.0.0.1:8025", _shown_or_empty),
]
OptionalFilePath = Annotated[
    Path | None,
    Kind(
        "path", _or_empty(_parse_path, None), (Path, _NONE), "/etc/postroad/http.token", _shown_or_empty, _anchor_path
    ),
]
ServerAddress = Annotated[TcpAddress, Kind("server address", _parse_dns_server, (TcpAddress,), "127.0.0.1:5353")]
IP = Annotated[IPAddress, Kind("IP address", parse_ip, (*IPAddress.__args__,), "192.0.2.1")]
OptionalIP = Annotated[
    IPAddress | None,
    Kind("IP address", _or_empty(parse_ip, None), (*IPAddress.__args__, _NONE), "192.0.2.1", _shown_or_empty),
]
Network = Annotated[IPNetwork, Kind("network", parse_network, (*IPNetwork.__args__,), "10.0.0.0/8")]
AddressPattern = Annotated[Pattern, Kind("pattern", parse_pattern, (Pattern,), "*.example.org")]
DomainPattern = Annotated[Pattern, Kind("pattern", parse_domain_pattern, (Pattern,), "*.example.org")]
OptionalDomainPattern = Annotated[
    Pattern | None,
    Kind("pattern", _or_empty(parse_domain_pattern, None), (Pattern, _NONE), "*.example.org", _shown_or_empty),
]
NextHopAddress = Annotated[
    Smtp | Lmtp, Kind("next hop", parse_next_hop, (Smtp, Lmtp), "smtp://smtp.example.org:587", _shown_address)
]
ViaValue = Annotated[
    Via,  # or, until Settings looks it up, a NextHopName
    Kind("next hop", parse_via, (*VIA_TYPES, NextHopName), "mx", anchor=anchor_via, otherwise=_SHARES),
]
OneOrMore = BeforeValidator(_one_or_more)
"""Lets a list be written as its only element."""
