"""A login: who is let in, what is refused how, and what failures cost. The users are real, their records in memory."""

from __future__ import annotations

import asyncio
from base64 import b64decode
from collections.abc import Awaitable, Callable

import pytest

from postroad.access.book import UserBook
from postroad.access.credentials import ARGON2ID, SCRAM, format_credential, make
from postroad.access.users import Users
from postroad.core import reply
from postroad.core.faces import RecordRow, RecordsTrouble
from postroad.core.reply import Reply
from postroad.inbound import login as login_file
from postroad.inbound.guard import BANNED_AT, BANNED_FOR, KNOWN_TRIES, SLOWED_MAX, TRIED_AT
from postroad.inbound.login import Login, Logins, without_plus
from postroad.ledger.marks import LocalMarks
from postroad.smtp.events import Auth, AuthResponse
from postroad.smtp.extensions import Offer
from postroad.smtp.sasl import derive_salted
from postroad.smtp.sasl_client import ClientExchange, NeedSalted, Respond
from postroad.smtp.sasl_server import MECHANISMS
from postroad.testing.fake_clock import FakeClock
from postroad.testing.inline_threads import InlineThreads
from postroad.testing.memory_records import MemoryRecords
from postroad.testing.seeded_dice import SeededDice

PASSWORD = "correct horse battery"
REAL_SLEEP = asyncio.sleep
Way = Callable[[Login, str, str], Awaitable[tuple[Reply, str]]]
BINDING = bytes(range(32))


class IllRecords(MemoryRecords):
    """Records that can be away, or never answer."""

    trouble: str = ""

    async def get(self, table: str, key: str) -> RecordRow | None:
        while self.trouble == "hangs":
            await REAL_SLEEP(0.01)
        if self.trouble:
            raise RecordsTrouble(self.trouble)
        return await super().get(table, key)


class Hall:
    """A relay's logins, its users alice (SCRAM) and bob (argon2id, scope etrn), and how long answers waited."""

    def __init__(self) -> None:
        self.clock = FakeClock(1_800_000_000.0)
        self.records = IllRecords(self.clock)
        self.now = 1_000.0
        dice = SeededDice(1)
        users = Users(self.records, InlineThreads(), dice, lambda: self.now)
        self.users = users
        self.logins = Logins(users, LocalMarks(lambda: self.now), dice)
        self.waits: list[float] = []
        self.is_stopping = False
        self.stop: Callable[[], None] = lambda: None

    async def fill(self) -> None:
        book = UserBook(self.records, self.clock, SeededDice(2))
        await book.add(
            "alice", format_credential(make(SCRAM, PASSWORD, bytes(16))), (), ("example.org", "a@b\u00fccher.example")
        )
        await book.add("bob", format_credential(make(ARGON2ID, PASSWORD, bytes(16))), ("etrn",), ())
        self.users.changed("users")

    def enter(self, client: str = "192.0.2.1", binding: bytes = BINDING, *, is_trusted: bool = False) -> Login:
        return Login(self.logins, client, lambda: binding, is_trusted=is_trusted)


@pytest.fixture
def hall(monkeypatch: pytest.MonkeyPatch) -> Hall:
    here = Hall()

    async def wait(futures: list[asyncio.Future[None]], timeout: float) -> tuple[set[object], set[object]]:
        here.waits.append(timeout)
        here.now += timeout
        if here.is_stopping:
            here.stop()
        return {one for one in futures if one.done()}, set()

    monkeypatch.setattr(login_file.asyncio, "wait", wait)
    return here


def run(hall: Hall, work: Callable[[], Awaitable[None]]) -> None:
    async def whole() -> None:
        await hall.fill()
        await work()

    asyncio.run(whole())


async def plain(login: Login, name: str, password: str) -> tuple[Reply, str]:
    return await login.answer(Auth("PLAIN", f"\0{name}\0{password}".encode()))


async def scram(login: Login, name: str, password: str, *, binding: bytes = b"") -> tuple[Reply, str]:
    """Log in by our own client; return the last answer."""
    mechanism = "SCRAM-SHA-256-PLUS" if binding else "SCRAM-SHA-256"
    client = ClientExchange(mechanism, name, password, nonce=lambda: "client", binding=binding)
    said = client.start()
    assert isinstance(said, Respond)
    answer, rule = await login.answer(Auth(mechanism, said.octets))
    while answer.code == 334:
        step = client.challenged(b64decode(answer.text))
        if isinstance(step, NeedSalted):
            step = client.use_salted(derive_salted(step.password, step.salt, step.iterations))
        answer, rule = await login.answer(AuthResponse(step.octets if isinstance(step, Respond) else None))
    assert client.is_complete is answer.is_positive
    return answer, rule


def test_who_has_the_password_is_in(hall: Hall) -> None:
    async def work() -> None:
        for way in (plain, scram):
            login = hall.enter(binding=b"")
            assert await way(login, "alice", PASSWORD) == (reply.AUTHENTICATED, "")
            assert login.user is not None
            assert (login.user.name, login.tried) == ("alice", "alice")
            assert login.shown is not None
            assert login.shown.may_relay
            assert login.shown.send_as == (("", "example.org"), ("a", "xn--bcher-kva.example"))
        assert await scram(hall.enter(), "alice", PASSWORD, binding=BINDING) == (reply.AUTHENTICATED, "")
        login = hall.enter()
        assert await plain(login, "bob", PASSWORD) == (reply.AUTHENTICATED, "")
        assert login.shown is not None
        assert not login.shown.may_relay, "its scope is another"
        login.forget()
        assert (login.user, login.shown) == (None, None)

    run(hall, work)
    assert hall.waits == []


@pytest.mark.parametrize("way", [plain, scram])
@pytest.mark.parametrize("name", ["alice", "bob", "nobody", "Alice", "a" * 256])
def test_who_has_not_is_told_the_same_whoever_it_is(hall: Hall, way: Way, name: str) -> None:
    async def work() -> None:
        login = hall.enter(binding=b"")
        answer, rule = await way(login, name, PASSWORD[:-1])
        assert (login.user, login.shown) == (None, None)
        if len(name) > 255:
            assert answer.code in (501, 535)
        else:
            assert (answer, rule) == (reply.BAD_CREDENTIALS, "auth.credentials")

    run(hall, work)


def test_a_wrong_binding_is_no_login(hall: Hall) -> None:
    async def work() -> None:
        answer, rule = await scram(hall.enter(), "alice", PASSWORD, binding=bytes(32))
        assert (answer.code, rule) == (535, "auth.credentials")
        answer, _ = await scram(hall.enter(), "alice", PASSWORD)  # it says "n", as one who knows no binding at all
        assert answer == reply.AUTHENTICATED

    run(hall, work)


def test_a_cancelled_or_broken_exchange_is_nobodys_failure(hall: Hall) -> None:
    async def work() -> None:
        login = hall.enter()
        assert (await login.answer(Auth("LOGIN")))[0].code == 334
        assert await login.answer(AuthResponse(None)) == (reply.AUTH_CANCELLED, "rfc4954")
        answer, rule = await login.answer(Auth("PLAIN", b"no zero octets"))
        assert (answer.code, rule) == (501, "rfc4954")
        assert (await login.answer(Auth("LOGIN")))[0].code == 334
        login.break_off()
        assert await plain(login, "alice", PASSWORD) == (reply.AUTHENTICATED, "")
        assert await hall.logins.marks.count("login:192.0.2.1", 600.0, 0) == 0

    run(hall, work)


@pytest.mark.parametrize("trouble", ["the disk is ill", "hangs"])
def test_where_nobody_can_say_nobody_is_in(hall: Hall, trouble: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(login_file, "CHECK_MAX", 0.05)

    async def work() -> None:
        login = hall.enter(binding=b"")
        hall.records.trouble = trouble
        for way in (plain, scram):
            assert await way(login, "alice", PASSWORD) == (reply.AUTH_TROUBLE, "auth.trouble")
            assert login.user is None
        hall.records.trouble = ""
        assert await plain(login, "alice", PASSWORD) == (reply.AUTHENTICATED, "")
        assert await hall.logins.marks.count("login:192.0.2.1", 600.0, 0) == 0, "that was not the client's fault"

    run(hall, work)


def test_failures_of_an_address_wait_before_they_are_looked_at_and_are_then_turned_away(hall: Hall) -> None:
    async def work() -> None:
        assert await plain(hall.enter(), "bob", PASSWORD) == (reply.AUTHENTICATED, "")
        for number in range(BANNED_AT):
            assert (await plain(hall.enter(), f"user{number}", "wrong"))[1] == "auth.credentials"
        assert hall.waits[:3] == [1, 2, 3]  # the fourth failure, the fifth, ...
        assert hall.waits[-1] == max(hall.waits) == SLOWED_MAX
        assert await plain(hall.enter(), "alice", PASSWORD) == (reply.TOO_MANY_LOGINS, "auth.failures")
        answer = await scram(hall.enter(binding=b""), "alice", PASSWORD)
        assert answer == (reply.TOO_MANY_LOGINS, "auth.failures")
        assert await plain(hall.enter(), "bob", PASSWORD) == (reply.AUTHENTICATED, ""), "he logged in from there lately"
        assert await plain(hall.enter("192.0.2.2"), "alice", PASSWORD) == (reply.AUTHENTICATED, "")
        hall.now += BANNED_FOR + 1
        assert await plain(hall.enter(), "alice", PASSWORD) == (reply.AUTHENTICATED, "")

    run(hall, work)


def test_a_response_that_comes_after_the_ban_is_not_looked_at(hall: Hall) -> None:
    async def work() -> None:
        early = hall.enter()
        assert (await early.answer(Auth("PLAIN")))[0].code == 334
        for number in range(BANNED_AT):
            await plain(hall.enter(), f"user{number}", "wrong")
        response = AuthResponse(f"\0alice\0{PASSWORD}".encode())
        assert await early.answer(response) == (reply.TOO_MANY_LOGINS, "auth.failures")
        assert early.user is None

    run(hall, work)


def test_a_user_that_many_try_is_looked_at_once_a_second_for_strangers(hall: Hall) -> None:
    async def work() -> None:
        assert await plain(hall.enter("198.51.100.250"), "alice", PASSWORD) == (reply.AUTHENTICATED, "")
        for number in range(TRIED_AT):
            assert (await plain(hall.enter(f"198.51.100.{number}"), "alice", "wrong"))[0].code == 535
        assert (await plain(hall.enter("198.51.100.200"), "alice", "wrong"))[0].code == 535
        assert await plain(hall.enter("198.51.100.201"), "alice", PASSWORD) == (reply.TOO_MANY_LOGINS, "auth.failures")
        assert await plain(hall.enter("198.51.100.250"), "alice", PASSWORD) == (reply.AUTHENTICATED, "")
        hall.now += 1.5
        assert await plain(hall.enter("198.51.100.201"), "alice", PASSWORD) == (reply.AUTHENTICATED, "")
        assert hall.waits == []

    run(hall, work)


def test_who_is_known_may_be_wrong_a_few_times(hall: Hall) -> None:
    async def work() -> None:
        assert await plain(hall.enter(), "alice", PASSWORD) == (reply.AUTHENTICATED, "")
        for _ in range(KNOWN_TRIES):
            assert (await plain(hall.enter(), "alice", "wrong"))[0].code == 535
        assert hall.waits == []
        assert (await plain(hall.enter(), "alice", "wrong"))[0].code == 535
        assert hall.waits == [3], "from now on like others"

    run(hall, work)


def test_the_address_of_a_trusted_network_is_not_slowed(hall: Hall) -> None:
    async def work() -> None:
        for number in range(BANNED_AT + 2):
            assert (await plain(hall.enter(is_trusted=True), f"user{number}", "wrong"))[0].code == 535
        assert await plain(hall.enter(is_trusted=True), "alice", PASSWORD) == (reply.AUTHENTICATED, "")
        assert hall.waits == []

    run(hall, work)


def test_an_exchange_that_is_left_open_is_a_try(hall: Hall) -> None:
    async def work() -> None:
        async def count() -> int:
            return await hall.logins.marks.count("login:192.0.2.1", 600.0, 0)

        client = ClientExchange("SCRAM-SHA-256", "alice", PASSWORD, nonce=lambda: "client")
        said = client.start()
        assert isinstance(said, Respond)
        login = hall.enter(binding=b"")
        assert (await login.answer(Auth("SCRAM-SHA-256", said.octets)))[0].code == 334
        assert await login.answer(AuthResponse(None)) == (reply.AUTH_CANCELLED, "rfc4954")
        assert await count() == 1
        await login.answer(Auth("SCRAM-SHA-256", said.octets))
        login.break_off()
        await login.settle()
        await login.settle()
        assert await count() == 2

    run(hall, work)


def test_a_stop_keeps_nobody_waiting(hall: Hall) -> None:
    async def work() -> None:
        for number in range(5):
            await plain(hall.enter(), f"user{number}", "wrong")
        login = hall.enter()
        hall.is_stopping, hall.stop = True, login.hurry
        assert await plain(login, "alice", PASSWORD) == (reply.SHUTTING_DOWN, "auth.failures")
        assert login.user is None
        await login.settle()
        assert await hall.logins.marks.count("login:192.0.2.1", 600.0, 0) == 5, "nothing was tried"

    run(hall, work)


def test_no_repr_shows_what_was_said() -> None:
    assert "secret" not in repr(Auth("PLAIN", b"secret")) + repr(AuthResponse(b"secret"))


def test_a_channel_without_binding_is_offered_no_plus() -> None:
    offer = Offer(size_max=1, auth=MECHANISMS)
    assert without_plus(offer).auth == tuple(one for one in MECHANISMS if one != "SCRAM-SHA-256-PLUS")
