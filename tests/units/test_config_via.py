"""Every form of `via`, and what those who write another are told."""

from __future__ import annotations

from pathlib import PurePosixPath

import pytest

from postroad.config.via import (
    Discard,
    Lmtp,
    LmtpUnix,
    Maildir,
    Mx,
    NextHopName,
    Reject,
    Smtp,
    Via,
    anchor_via,
    check_next_hop_name,
    parse_next_hop,
    parse_via,
)


@pytest.mark.parametrize(
    ("text", "via"),
    [
        ("mx", Mx()),
        ("smtp://Mail.Example.org", Smtp("mail.example.org", 25)),
        ("smtp://mail.example.org:587", Smtp("mail.example.org", 587)),
        ("smtp://192.0.2.1", Smtp("192.0.2.1", 25)),
        ("smtp://[2001:db8::1]", Smtp("2001:db8::1", 25)),
        ("smtp://[2001:db8::1]:2525", Smtp("2001:db8::1", 2525)),
        ("smtp://bücher.example", Smtp("xn--bcher-kva.example", 25)),
        ("lmtp://127.0.0.1", Lmtp("127.0.0.1", 24)),
        ("lmtp://dovecot:2424", Lmtp("dovecot", 2424)),
        ("lmtp+unix:///run/dovecot/lmtp", LmtpUnix("/run/dovecot/lmtp")),
        ("lmtp+unix:/run/dovecot/lmtp", LmtpUnix("/run/dovecot/lmtp")),
        ("maildir:///var/mail/{domain}/{user}", Maildir("/var/mail/{domain}/{user}")),
        ("maildir:/var/mail/{address}", Maildir("/var/mail/{address}")),
        ("maildir:/var/mail/all", Maildir("/var/mail/all")),
        ("discard:", Discard()),
        ("reject:No such user here", Reject("No such user here")),
        ("reject: moved: see https://example.org ", Reject("moved: see https://example.org")),
        ("provider-a", NextHopName("provider-a")),
    ],
)
def test_where_a_route_sends(text: str, via: Via | NextHopName) -> None:
    assert parse_via(text) == via
    assert parse_via(str(via)) == via


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "`via` is empty"),
        ("discard", 'Write "discard:"'),
        ("reject", 'Write "reject:No such user here"'),
        ("reject:  ", "lacks its text"),
        ("reject:a\r\nb", "printable ASCII"),
        ("reject:é", "printable ASCII"),
        ("reject:" + "x" * 401, "at most 400"),
        ("discard:now", 'Nothing may follow "discard:"'),
        ("mail.example.org", 'Write "smtp://mail.example.org"'),
        ("mail.example.org:25", 'Write "smtp://mail.example.org:25"'),
        ("[::1]", 'Write "smtp://[::1]"'),
        ("[::1]:25", 'Write "smtp://[::1]:25"'),
        ("http://example.org", '"http:" is not a protocol'),
        ("SMTP://example.org", '"SMTP:" is not a protocol'),
        ("pipe:/bin/cat", '"pipe:" is not a protocol'),
        ("smtps://mail.example.org", "smtps: is not in this version"),
        ("smtp:mail.example.org", 'Write "smtp://mail.example.org"'),
        ("smtp:/mail.example.org", 'Write "smtp://mail.example.org"'),
        ("smtp://", "names no host"),
        ("smtp://:25", "The name is empty"),
        ("smtp://mail.example.org/", "something after host and port"),
        ("smtp://mail.example.org:25?tls=1", "something after host and port"),
        ("smtp://mail.example.org:0", "0 is not the port"),
        ("smtp://mail.example.org:99999", "Ports go up to 65535"),
        ("smtp://mail.example.org:", "is not an address"),
        ("smtp://::1", 'Write "[::1]:25"'),
        ("smtp://a_b.example", "is not a domain name"),
        ("lmtp+unix://run/x", 'Write "lmtp+unix:///run/x", with three slashes'),
        ("lmtp+unix:", "lmtp+unix:///run/dovecot/lmtp"),
        ("lmtp+unix:run/x", "not an absolute path"),
        ("maildir:", "names no directory"),
        ("maildir:///", "names no directory"),
        ("maildir://var/mail", 'Write "maildir:///var/mail"'),
        ("maildir:/m/{users}", "{users} is not a placeholder. There are {user} {domain} {address} {detail}."),
        ("maildir:/m/{}", "{} is not a placeholder"),
        ("maildir:/m/{user", "a brace without its partner"),
        ("maildir:/m/user}", "a brace without its partner"),
        ("maildir:/m/{{user}}", "a brace without its partner"),
        ("my provider", "is not a name for a next hop"),
        ("-x", "is not a name for a next hop"),
    ],
)
def test_what_the_others_are_told(text: str, told: str) -> None:
    with pytest.raises(ValueError) as caught:
        parse_via(text)
    assert told in str(caught.value)
    assert str(caught.value).endswith(".")


def test_credentials_are_not_repeated() -> None:
    """A password in the wrong place must not come out in a log."""
    with pytest.raises(ValueError, match="Credentials do not belong here") as caught:
        parse_via("smtp://user:hunter2@mail.example.org")
    assert "hunter2" not in str(caught.value)


def test_a_template_is_taken_apart() -> None:
    assert Maildir("/m/{domain}/{user}").parts == ("/m/", "domain", "/", "user", "")
    assert Maildir("/m").parts == ("/m",)


def test_a_next_hop_is_a_host() -> None:
    assert parse_next_hop("smtp://a.example:587") == Smtp("a.example", 587)
    assert parse_next_hop("lmtp://a.example") == Lmtp("a.example", 24)
    for text in ("mx", "discard:", "maildir:/m", "lmtp+unix:///x", "other"):
        with pytest.raises(ValueError, match="has no settings of its own"):
            parse_next_hop(text)


def test_a_next_hop_shows_its_name() -> None:
    assert str(Smtp("a.example", 587, "provider-a")) == "provider-a"


@pytest.mark.parametrize("name", ["mx", "discard", "reject", "", "a.b", "a b", "ü", "a:b"])
def test_what_no_next_hop_may_be_called(name: str) -> None:
    with pytest.raises(ValueError):
        check_next_hop_name(name)


def test_relative_paths_are_beside_the_file() -> None:
    base = PurePosixPath("/srv/x")
    assert anchor_via("maildir:./mail/{user}", base) == "maildir:/srv/x/mail/{user}"
    assert anchor_via("lmtp+unix:run/lmtp", base) == "lmtp+unix:/srv/x/run/lmtp"
    for text in ("maildir:/m", "maildir:///m", "maildir://m", "maildir:", "mx", "smtp://mail"):
        assert anchor_via(text, base) == text
