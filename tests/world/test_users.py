"""``postroad user`` with a real relay: the same whether it runs or not, and what was said holds across."""

from __future__ import annotations

import json
from pathlib import Path

from tests.world.harness import Relay, running

PASSWORD = "correct horse\n"
HTPASSWD = Path(__file__).parents[1] / "cases" / "cli" / "users.htpasswd"


def users(relay: Relay) -> dict[str, dict[str, object]]:
    rows = [json.loads(line) for line in relay.postroad("user", "list", "--json").stdout.splitlines()]
    return {row["name"]: row for row in rows}


def kept(relay: Relay) -> bytes:
    """Everything that lies in the files a secret must not be in, and where it must be hashed."""
    files = [path for path in relay.data_dir.rglob("*") if path.is_file()]
    return b"".join(path.read_bytes() for path in files)


def test_users_are_kept_whether_the_relay_runs_or_not(tmp_path: Path) -> None:
    with running(Relay(tmp_path)) as relay:
        relay.postroad("user", "add", "alice", "--password-stdin", input=PASSWORD)
        relay.postroad("user", "add", "bob", "--scheme", "argon2id", "--password-stdin", input=PASSWORD)
        refused = relay.postroad("user", "add", "alice", "--password-stdin", input=PASSWORD, check=False)
        assert refused.returncode == 1
        assert relay.postroad("user", "import", str(HTPASSWD), check=False).returncode == 1
        assert list(users(relay)) == ["alice", "bob", "carol", "dave"]
        assert relay.stop() == 0
        before = users(relay)
        assert list(before) == ["alice", "bob", "carol", "dave"]
        relay.postroad("user", "add", "erin", "--password-stdin", input=PASSWORD)
        relay.postroad("user", "change", "alice", "--send-as", "example.org")
        relay.postroad("user", "password", "bob", "--password-stdin", input="another horse\n")
        relay.postroad("user", "remove", "carol")
        assert relay.postroad("user", "remove", "carol", check=False).returncode == 1
        relay.start()
        after = users(relay)
        assert list(after) == ["alice", "bob", "dave", "erin"]
        assert after["alice"]["send_as"] == ["example.org"]
        assert (before["bob"]["scheme"], after["bob"]["scheme"]) == ("argon2id", "SCRAM-SHA-256")
        said = relay.postroad("queue", "audit", "--json").stdout
        rows = [json.loads(line) for line in said.splitlines()]
        done = [(row["what"], row["about"]) for row in rows if not row["result"].startswith("refused")]
        assert done == [
            ("user-remove", "carol"),  # there was none any more
            ("user-remove", "carol"),
            ("user-change", "bob"),
            ("user-change", "alice"),
            ("user-add", "erin"),
            ("user-add", "dave"),
            ("user-add", "carol"),
            ("user-add", "bob"),
            ("user-add", "alice"),
        ]
        for secret in ("horse", "argon2id$v", "WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY"):
            assert secret not in said + relay.log
        assert b"horse" not in kept(relay)
        assert b"WG5d8oPm3Otc" in kept(relay)  # what is looked through is where it would be
