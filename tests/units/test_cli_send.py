"""``postroad send``: what it submits, what it tells of the story, its exit status."""

from __future__ import annotations

import email
import email.policy
import io
import socket
import sys
from collections.abc import AsyncGenerator, Iterator
from email.message import EmailMessage
from pathlib import Path
from types import SimpleNamespace

import pytest
from tests.units.smtp_world import ScriptedServer, scripted_server
from tests.units.steering_world import NOW, message_id
from tests.units.test_cli_cases import Script, said

from postroad.cli.submit import choose_server
from postroad.config.load import load_text
from postroad.core.facts import AnyFact, Bounced, Deferred, Delivered, Dropped, Expired, Received
from postroad.core.ids import MessageId
from postroad.core.outcome import Stage
from postroad.core.reply import Reply
from postroad.outbound.steering import NoRelay

ID = message_id(1)


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with scripted_server() as made:
        yield made


@pytest.fixture(autouse=True)
def _sandbox(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("POSTROAD_CONFIG", raising=False)
    monkeypatch.chdir(tmp_path)


def send(server: ScriptedServer, *arguments: str, script: Script | None = None) -> list[str]:
    house = (script or Script()).house()
    return said(["send", "--from", "a@example.org", "--server", f"127.0.0.1:{server.port}", *arguments], house)


def content(server: ScriptedServer) -> EmailMessage:
    found = email.message_from_bytes(server.content.replace(b"\r\n", b"\n"), policy=email.policy.default)
    assert isinstance(found, EmailMessage)
    return found


def of_recipient(kind: type, **more: object) -> AnyFact:
    common = {"at": NOW, "message": ID, "number": 0, "recipient": "b@example.org", "destination": "mx:example.org"}
    fields = {
        Delivered: {"sender": "", "host": "mx1.example.org", "reply": Reply(250, (0, 0), "Ok"), "delay": 0.034},
        Deferred: {
            "host": "mx1.example.org",
            "stage": Stage.RCPT,
            "reply": Reply(450, (2, 1), "Busy"),
            "attempts": 1,
            "retry_at": NOW + 300,
        },
        Bounced: {
            "sender": "",
            "host": "h",
            "stage": Stage.RCPT,
            "reply": Reply(550, (1, 1), "No such user"),
            "delay": 1.0,
        },
        Expired: {"sender": "", "host": "h", "reply": Reply(450, (2, 1), "Busy"), "delay": 432_000.0},
        Dropped: {"rule": "route:discard"},
    }[kind]
    if kind is Dropped:
        del common["destination"]
    return kind(**(common | fields | more))  # type: ignore[no-any-return]


def with_story(*facts: AnyFact) -> Script:
    script = Script()
    script.steering.facts = list(facts)
    return script


# --- what is submitted ---------------------------------------------------------------------------------


def test_a_message_is_submitted_and_followed_until_it_is_delivered(server: ScriptedServer) -> None:
    script = with_story(of_recipient(Delivered))
    assert send(server, "--to", "b@example.org", script=script) == [
        "queued     0ca9vy9nw0001",
        "delivered  b@example.org to mx:example.org by mx1.example.org after 0.0 s: 250 2.0.0 Ok",
    ]
    assert script.steering.asked == [("watch", ID)]
    assert [command.upper() for command in server.commands[1:]] == [
        f"MAIL FROM:<A@EXAMPLE.ORG> SIZE={len(server.content)}",
        "RCPT TO:<B@EXAMPLE.ORG>",
        "DATA",
        "QUIT",
    ]
    message = content(server)
    assert (message["From"], message["To"]) == ("a@example.org", "b@example.org")
    assert message["Date"] == "Mon, 23 Nov 2026 03:12:11 +0000"
    assert message["Subject"] == "A message from postroad send"
    assert message.get_content() == "This is a message from postroad send.\n"


@pytest.mark.parametrize("text", ["Grüße", "Grüße\n.\nFrom me\n" + "ü" * 2000, "x" * 2000])
def test_text_of_any_letters_goes_to_a_server_of_seven_bits(server: ScriptedServer, text: str) -> None:
    server.replies["EHLO"] = "250 scripted"
    assert send(server, "--to", "b@example.org", "--subject", "Größe ✓", "--body", text, "--no-wait") == [
        "queued     0ca9vy9nw0001"
    ]
    assert server.content.isascii()
    assert max(map(len, server.content.splitlines())) <= 998
    assert content(server)["Subject"] == "Größe ✓"
    assert content(server).get_content().splitlines() == text.splitlines()
    assert "SIZE" not in server.commands[1].upper()


def test_files_are_attached_as_they_are(server: ScriptedServer, tmp_path: Path) -> None:
    octets = bytes(range(256)) * 300
    (tmp_path / "photo.png").write_bytes(octets)
    (tmp_path / "größe.unknown").write_bytes(b"\r\n.\r\n")
    send(server, "--to", "b@example.org", "--attach", "photo.png", "--attach", "größe.unknown", "--no-wait")
    first, second = content(server).iter_attachments()
    assert (first.get_filename(), first.get_content_type(), first.get_content()) == ("photo.png", "image/png", octets)
    assert second.get_content_type() == "application/octet-stream"
    assert (second.get_filename(), second.get_content()) == ("größe.unknown", b"\r\n.\r\n")


def test_an_attachment_that_is_not_there_is_named(server: ScriptedServer) -> None:
    assert send(server, "--to", "b@example.org", "--attach", "nothing") == [
        "! postroad: nothing cannot be attached: No such file or directory.",
        "exit 1",
    ]
    assert server.commands == []


def test_the_text_may_come_from_standard_input(server: ScriptedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO("line 1\nzwölf".encode())))
    send(server, "--to", "b@example.org", "--body", "-", "--no-wait")
    assert content(server).get_content() == "line 1\nzwölf\n"
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(b"\xff")))
    assert send(server, "--to", "b@example.org", "--body", "-")[-2:] == [
        "! Error: Invalid value for --body: Standard input is not UTF-8: use --attach.",
        "exit 2",
    ]


def test_domains_go_as_a_labels_and_other_letters_by_smtputf8(server: ScriptedServer) -> None:
    send(server, "--to", "b@bücher.example", "--no-wait")
    assert "rcpt TO:<b@xn--bcher-kva.example>".upper() in map(str.upper, server.commands)
    assert "SMTPUTF8" not in server.commands[1].upper()
    server.commands.clear()
    assert send(server, "--to", "bücher@example.org", "--no-wait") == ["queued     0ca9vy9nw0001"]
    assert server.commands[1].upper().endswith("BODY=8BITMIME SMTPUTF8")
    assert "<bücher@example.org>" in server.commands[2]
    server.replies["EHLO"] = "250 scripted"
    (said_, status) = send(server, "--to", "bücher@example.org", "--no-wait")
    assert "does not offer SMTPUTF8" in said_
    assert status == "exit 1"


# --- what the server says ------------------------------------------------------------------------------


def test_who_is_refused_is_told_and_the_others_get_it(server: ScriptedServer) -> None:
    for command in ("rcpt TO:<no@example.org>", "RCPT TO:<no@example.org>"):
        server.replies[command] = "550 5.1.1 No such user"
    script = with_story(of_recipient(Delivered))
    lines = send(server, "--to", "no@example.org", "--to", "b@example.org", script=script)
    assert lines[:2] == ["refused    no@example.org: 550 5.1.1 No such user", "queued     0ca9vy9nw0001"]
    assert lines[2].startswith("delivered  b@example.org")
    assert lines[-1] == "exit 1"


@pytest.mark.parametrize(
    ("command", "reply", "line"),
    [
        ("MAIL", "530 5.7.0 Authentication required", "refused    530 5.7.0 Authentication required"),
        ("RCPT", "550 5.7.1 Relaying denied", "refused    b@example.org: 550 5.7.1 Relaying denied"),
        ("DATA", "451 4.3.0 Not now", "refused    451 4.3.0 Not now"),
        (".", "554-5.4.6 Too many\r\n554 5.4.6 hops", "refused    554 5.4.6 Too many / 5.4.6 hops"),
    ],
)
def test_a_refusal_is_told_and_is_exit_1(server: ScriptedServer, command: str, reply: str, line: str) -> None:
    server.replies[command] = reply
    assert send(server, "--to", "b@example.org") == [line, "exit 1"]


@pytest.mark.parametrize(
    ("command", "reply", "text"),
    [
        ("", "554 No service", "does not want us: 554 No service"),
        ("MAIL", "", "closed the connection"),
    ],
)
def test_a_conversation_that_fails_is_a_sentence(server: ScriptedServer, command: str, reply: str, text: str) -> None:
    server.replies[command] = reply
    line, status = send(server, "--to", "b@example.org")
    assert line.startswith(f"! postroad: 127.0.0.1:{server.port} ")
    assert text in line
    assert status == "exit 1"


def test_where_nobody_listens_the_way_to_start_one_is_said() -> None:
    with socket.socket() as bound:  # bound, not listening: nobody else gets the port meanwhile
        bound.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{bound.getsockname()[1]}"
        assert said(["send", "--to", "b@example.org", "--server", address], Script().house()) == [
            f"! postroad: No relay listens on {address}. Start one: postroad serve",
            "exit 1",
        ]


def test_a_server_without_ids_is_believed(server: ScriptedServer) -> None:
    server.replies["."] = "250 2.0.0 Ok: queued as 8A3F2C"
    first, second = send(server, "--to", "b@example.org")
    assert first == "taken      250 2.0.0 Ok: queued as 8A3F2C"
    assert "names no id" in second


@pytest.mark.parametrize("address", ["nonsense", "a b@example.org", "x@example.org>\r\nRSET", ""])
def test_what_is_no_address_is_usage(server: ScriptedServer, address: str) -> None:
    assert send(server, "--to", address)[-1] == "exit 2"
    assert send(server, "--to", "b@example.org", "--subject", "a\nBcc: c@example.org")[-1] == "exit 2"
    assert server.commands == []


# --- the story -----------------------------------------------------------------------------------------


def test_a_recipient_who_is_tried_later_is_no_failure_and_not_waited_for(server: ScriptedServer) -> None:
    assert send(server, "--to", "b@example.org", script=with_story(of_recipient(Deferred)))[1:] == [
        "deferred   b@example.org at mx:example.org (rcpt): 450 4.2.1 Busy; next try 2026-11-23 03:17:11 UTC"
    ]


def test_one_who_is_tried_again_soon_is_waited_for(server: ScriptedServer) -> None:
    script = with_story(of_recipient(Deferred, retry_at=NOW + 5), of_recipient(Delivered))
    lines = send(server, "--to", "b@example.org", script=script)
    assert [line.split()[0] for line in lines] == ["queued", "deferred", "delivered"]


@pytest.mark.parametrize(("kind", "status"), [(Bounced, ["exit 1"]), (Expired, ["exit 1"]), (Dropped, [])])
def test_how_it_ends_is_the_exit_status(server: ScriptedServer, kind: type, status: list[str]) -> None:
    lines = send(server, "--to", "b@example.org", script=with_story(of_recipient(kind)))
    assert lines[1].split()[0] == {Bounced: "failed", Expired: "failed", Dropped: "dropped"}[kind]
    assert lines[2:] == status


def test_facts_of_no_interest_are_not_told(server: ScriptedServer) -> None:
    received = Received(
        at=NOW,
        message=ID,
        session=1,  # type: ignore[arg-type]
        listener="l",
        client="127.0.0.1",
        hello="h",
        protocol="ESMTP",
        tls="",
        sender="a@example.org",
        recipients=("b@example.org",),
        size=1,
        seconds=0.1,
        rule="relay.networks",
    )
    assert len(send(server, "--to", "b@example.org", script=with_story(received, of_recipient(Delivered)))) == 2


def test_the_story_of_one_who_has_not_ended_stops_after_the_wait(server: ScriptedServer) -> None:
    import asyncio

    script = Script()

    async def nothing(_: MessageId | None) -> AsyncGenerator[AnyFact, None]:
        await asyncio.Event().wait()
        yield of_recipient(Delivered)

    script.steering.watch = nothing  # type: ignore[assignment, method-assign]
    assert send(server, "--to", "b@example.org", "--wait", "0.01", script=script)[1:] == [
        "waiting    1 recipient after 0.01 s; see: postroad queue show 0ca9vy9nw0001"
    ]


def test_without_a_relay_to_ask_the_message_is_still_taken(server: ScriptedServer) -> None:
    script = Script()
    script.steering.refuse = NoRelay("No relay runs here.")
    assert send(server, "--to", "b@example.org", script=script) == [
        "! The message was taken, but its story cannot be followed: No relay runs here.",
        "queued     0ca9vy9nw0001",
    ]


# --- which server --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("listeners", "chosen"),
    [
        ([("0.0.0.0:25", "mx", "starttls"), ("0.0.0.0:587", "submission", "starttls")], "127.0.0.1:587"),
        ([("[::]:465", "submission", "implicit")], "[::1]:465 tls"),
        ([("unix:/run/p.sock", "submission", "off"), ("192.0.2.1:25", "submission", "off")], "192.0.2.1:25"),
        ([("127.0.0.1:24", "lmtp", "off"), ("unix:/run/p.sock", "mx", "off")], "unix:/run/p.sock"),
        ([("127.0.0.1:24", "lmtp", "off")], None),
    ],
)
def test_the_listener_that_suits_is_chosen(listeners: list[tuple[str, str, str]], chosen: str | None) -> None:
    text = '[relay]\ndomains = ["example.org"]\n' + "".join(
        f'[[listener]]\naddress = "{address}"\nrole = "{role}"\ntls = "{tls}"\n' for address, role, tls in listeners
    )
    server = choose_server(load_text(text).settings)
    assert (server and f"{server.address}{' tls' if server.tls else ''}") == chosen


def test_the_listener_of_the_configuration_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "submission.sock"
    (tmp_path / "postroad.toml").write_text(f'[[listener]]\naddress = "unix:{path}"\ntls = "off"\n')
    with scripted_server(socket.AF_UNIX, str(path)) as server:
        assert said(["send", "--to", "b@example.org", "--no-wait"], Script().house()) == ["queued     0ca9vy9nw0001"]
        assert "MAIL" in server.commands[1].upper()
