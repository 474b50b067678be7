"""Who may send where, cell by cell: tests/cases/permission.csv, with a running relay and Python's smtplib.

The table was written by hand, before the code. Nothing here writes it.
"""

from __future__ import annotations

import csv
import itertools
import ssl
from collections.abc import Iterator
from pathlib import Path
from smtplib import SMTP, SMTPAuthenticationError
from typing import Final

import pytest
from tests.world.harness import Relay, free_port, running

TABLE: Final = Path(__file__).parents[1] / "cases" / "permission.csv"
OURS, FOREIGN = "bob@example.org", "bob@elsewhere.example"
TO: Final = {"ours": (OURS,), "foreign": (FOREIGN,), "both": (OURS, FOREIGN)}
PASSWORD: Final = "correct horse battery"
USERS: Final = {"good": "alice", "bad": "alice", "scope": "carol"}
CONFIG: Final = """
[[listener]]
name = "mx"
address = "127.0.0.1:{mx}"
role = "mx"
auth = true
[[listener]]
name = "submission"
address = "127.0.0.1:{submission}"
role = "submission"
[[listener]]
name = "lmtp"
address = "127.0.0.1:{lmtp}"
role = "lmtp"
[[auth]]
backend = "users"
[relay]
networks = ["127.0.0.0/16"]
domains = ["example.org"]
[[route]]
to = "*"
via = "discard:"
"""


class LmtpClient(SMTP):
    """smtplib's own LMTP class knows no STARTTLS greeting; the verb is all that differs."""

    ehlo_msg = "lhlo"


def rows() -> Iterator[dict[str, str]]:
    with TABLE.open(newline="") as file:
        yield from csv.DictReader(line for line in file if not line.startswith("#"))


def test_the_table_has_every_cell_once() -> None:
    keys = ("role", "in_network", "tls", "auth", "to")
    values = (
        ("mx", "submission", "lmtp"),
        ("yes", "no"),
        ("tls", "clear"),
        ("none", "good", "bad", "scope"),
        ("ours", "foreign", "both"),
    )
    assert sorted(tuple(row[key] for key in keys) for row in rows()) == sorted(itertools.product(*values))


def tried(row: dict[str, str], port: int, source: str) -> dict[str, str]:
    """Play one cell; return what was answered, in the words of the table."""
    kind = LmtpClient if row["role"] == "lmtp" else SMTP
    with kind("127.0.0.1", port, source_address=(source, 0), timeout=60) as client:
        client.ehlo("client.example")
        if row["tls"] == "tls":
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            assert client.starttls(context=context)[0] == 220
            client.ehlo("client.example")
        answers = {"auth_reply": "-"}
        if row["auth"] != "none":
            client.user, client.password = USERS[row["auth"]], PASSWORD
            if row["auth"] == "bad":  # a user that is tried too often is looked at once a second only
                client.user, client.password = f"{client.user}{port}", f"{PASSWORD}!"
            try:
                answers["auth_reply"] = str(client.auth("PLAIN", client.auth_plain)[0])
            except SMTPAuthenticationError as refused:
                answers["auth_reply"] = str(refused.smtp_code)
        answers["mail_reply"] = str(client.mail("a@client.example")[0])
        answers["rcpt_reply"] = " ".join(str(client.rcpt(to)[0]) for to in TO[row["to"]])
    return answers


def test_who_may_send_where(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ports = {role: free_port() for role in ("mx", "submission", "lmtp")}
    wrong, cells = [], 0
    relay = Relay(tmp_path, config=CONFIG.format(**ports), port=ports["mx"])
    with running(relay):
        relay.postroad("user", "add", "alice", "--password-stdin", input=PASSWORD + "\n")
        relay.postroad("user", "add", "carol", "--scope", "etrn", "--password-stdin", input=PASSWORD + "\n")
        for number, row in enumerate(rows()):
            # A client of its own for each cell: failures of one address are slowed.
            source = (
                f"127.0.{number // 200}.{number % 200 + 2}" if row["in_network"] == "yes" else f"127.9.0.{number + 2}"
            )
            answers = tried(row, ports[row["role"]], source)
            cells += 1
            if answers.items() - row.items():
                wrong.append((row, answers))
        assert relay.stop() == 0
    assert not wrong, wrong
    assert "correct horse" not in relay.log
    with capsys.disabled():
        print(f"\npermission: {cells} cells as the table says")
