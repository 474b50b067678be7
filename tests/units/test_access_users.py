"""Who has logged in: right, wrong, unknown; what is remembered and forgotten; how many passwords are hashed at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

import pytest
from tests.units.test_access_credentials import ARGON, RFC_7677

from postroad.access.book import OF_USERS, SECRETS, TABLE, UserBook
from postroad.access.credentials import ARGON2ID, SCRAM, Credential, format_credential, make, shape_of
from postroad.access.user import User
from postroad.access.users import LANE, LINE_MAX, REMEMBERED_FOR, SHAPES_FOR, AccessTrouble, Users
from postroad.core.faces import RecordRow, RecordsTrouble
from postroad.smtp.sasl import SCRAM_ITERATIONS
from postroad.testing.fake_clock import FakeClock
from postroad.testing.memory_records import MemoryRecords
from postroad.testing.seeded_dice import SeededDice

T = TypeVar("T")
PASSWORD = "correct horse"
SALT = bytes(range(16))


class SlowThreads:
    """Threads whose work is done when the test says so, or soon; it remembers what was asked."""

    def __init__(self) -> None:
        self.asked: list[Credential] = []
        self.lanes: set[str] = set()
        self.is_held = False
        self._waiting: list[Callable[[], None]] = []

    def run_blocking(self, work: Callable[..., T], *arguments: object, lane: str = "") -> asyncio.Future[T]:
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self.lanes.add(lane)
        self.asked.append(arguments[0])  # type: ignore[arg-type]

        def run() -> None:
            try:
                future.set_result(work(*arguments))
            except Exception as error:  # noqa: BLE001 - raised where it is awaited
                future.set_exception(error)

        if self.is_held:
            self._waiting.append(run)
        else:
            asyncio.get_running_loop().call_soon(run)
        return future

    def go_on(self) -> None:
        while self._waiting:
            self._waiting.pop(0)()


class IllRecords(MemoryRecords):
    """Records that can be away, and count their scans."""

    is_ill = False
    scans = 0

    async def get(self, table: str, key: str) -> RecordRow | None:
        await asyncio.sleep(0)  # as one that waits for the disk: others have their turn
        if self.is_ill:
            raise RecordsTrouble("the disk is ill")
        return await super().get(table, key)

    async def scan(self, table: str, prefix: str = "") -> AsyncIterator[RecordRow]:
        self.scans += 1
        async for row in super().scan(table, prefix):
            yield row


class House:
    """Users, and what stands around them."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.records = IllRecords(self.clock)
        self.threads = SlowThreads()
        self.now = 100.0
        self.book = UserBook(self.records, self.clock, SeededDice(1))
        self.users = self.new_users()

    def new_users(self, seed: int = 2) -> Users:
        return Users(self.records, self.threads, SeededDice(seed), lambda: self.now)

    async def add(self, name: str, password: str = PASSWORD, scheme: str = SCRAM) -> None:
        await self.book.add(name, format_credential(make(scheme, password, SALT)), (), ())
        self.users.changed(TABLE)


def played(test: Callable[[House], Awaitable[None]]) -> Callable[[], None]:
    def play() -> None:
        async def run() -> None:
            async with asyncio.timeout(60):
                await test(House())

        asyncio.run(run())

    play.__doc__ = test.__doc__
    return play


@pytest.mark.parametrize("scheme", [SCRAM, ARGON2ID])
def test_the_right_password_and_no_other(scheme: str) -> None:
    async def test(house: House) -> None:
        await house.add("alice", scheme=scheme)
        alice = User("alice", ("relay",), ())
        for _ in range(2):  # hashed, then remembered
            assert await house.users.check("alice", "correct horsf") is None
            assert await house.users.check("alice", PASSWORD) == alice
            assert await house.users.check("Alice", PASSWORD) is None
            assert await house.users.check("alice ", PASSWORD) is None
        assert house.threads.lanes == {LANE}

    played(test)()


@played
async def test_names_and_passwords_are_prepared(house: House) -> None:
    """SASLprep: what looks the same is the same, however the client's keyboard writes it."""
    await house.add("ju\u0308rgen", "pass\u00e9word")
    assert await house.users.check("j\u00fcrgen", "passe\u0301word") == User("j\u00fcrgen", ("relay",), ())
    assert await house.users.check("j\u00fcrg\u00aden", "pass\u00e9word") is not None  # a soft hyphen is nothing
    for name in ("", "\0", "j\u00fcrgen\0", "\ud800", "x" * 300):
        assert await house.users.check(name, "pass\u00e9word") is None
    for password in ("", "\0", "pass\u00e9word\0", "\ud800"):
        assert await house.users.check("j\u00fcrgen", password) is None


@played
async def test_a_success_is_remembered_for_a_while(house: House) -> None:
    await house.add("alice")
    await house.add("bob", "another horse")
    for _ in range(10):
        assert await house.users.check("alice", PASSWORD) is not None
    assert len(house.threads.asked) == 1
    assert await house.users.check("bob", PASSWORD) is None  # it is remembered of alice alone
    assert await house.users.check("alice", "wrong horse") is None
    assert len(house.threads.asked) == 3
    house.now += REMEMBERED_FOR - 1
    assert await house.users.check("alice", PASSWORD) is not None
    assert len(house.threads.asked) == 3
    house.now += 1
    assert await house.users.check("alice", PASSWORD) is not None
    assert len(house.threads.asked) == 4


@played
async def test_a_failure_is_not_remembered(house: House) -> None:
    await house.add("alice")
    for _ in range(3):
        assert await house.users.check("alice", "wrong horse") is None
    assert len(house.threads.asked) == 3


@played
async def test_a_change_is_seen_at_once(house: House) -> None:
    await house.add("alice")
    assert await house.users.check("alice", PASSWORD) is not None
    new = format_credential(make(SCRAM, "another horse", SALT))
    await house.book.change("alice", new, ("bulk",), ("example.org",))
    house.users.changed("suspensions")  # about something else: nothing is forgotten
    assert await house.users.check("alice", PASSWORD) is not None
    house.users.changed(TABLE)
    assert await house.users.check("alice", PASSWORD) is None
    assert await house.users.check("alice", "another horse") == User("alice", ("bulk",), ("example.org",))
    assert await house.book.remove("alice")
    house.users.changed(TABLE)
    assert await house.users.check("alice", "another horse") is None


@played
async def test_a_password_that_changes_while_it_is_checked_is_not_remembered(house: House) -> None:
    await house.add("alice")
    house.threads.is_held = True
    checking = asyncio.ensure_future(house.users.check("alice", PASSWORD))
    while not house.threads.asked:
        await asyncio.sleep(0)
    await house.book.remove("alice")
    house.users.changed(TABLE)
    house.threads.is_held = False
    house.threads.go_on()
    assert await checking is not None  # it was right when it was asked
    assert await house.users.check("alice", PASSWORD) is None


@played
async def test_who_asks_the_same_at_once_is_hashed_once(house: House) -> None:
    await house.add("alice")
    house.threads.is_held = True
    checks = [asyncio.ensure_future(house.users.check("alice", PASSWORD)) for _ in range(LINE_MAX * 3)]
    while not house.threads.asked:
        await asyncio.sleep(0)
    checks[0].cancel()  # the others do not depend on who came first
    house.threads.go_on()
    assert all(await asyncio.gather(*checks[1:]))
    assert len(house.threads.asked) == 1


@played
async def test_the_line_is_bounded_also_when_clients_go_away(house: House) -> None:
    await house.add("alice")
    house.threads.is_held = True
    checks = [asyncio.ensure_future(house.users.check("alice", f"guess number {n}")) for n in range(LINE_MAX)]
    while len(house.threads.asked) < LINE_MAX:
        await asyncio.sleep(0)
    for check in checks:
        check.cancel()
    await asyncio.gather(*checks, return_exceptions=True)
    with pytest.raises(AccessTrouble, match=f"{LINE_MAX} passwords"):
        await house.users.check("alice", PASSWORD)
    with pytest.raises(AccessTrouble):
        await house.users.check("nobody", PASSWORD)
    assert len(house.threads.asked) == LINE_MAX
    house.threads.is_held = False
    house.threads.go_on()
    await asyncio.sleep(0)
    assert await house.users.check("alice", PASSWORD) is not None  # there is room again


@played
async def test_nobody_costs_as_much_as_somebody(house: House) -> None:
    """The one thing that could tell is what is hashed: it is always one, and dear like that of a user."""
    assert await house.users.check("nobody", PASSWORD) is None
    assert len(house.threads.asked) == 1
    await house.book.add("imported", RFC_7677, (), ())
    await house.book.add("hashed", ARGON, (), ())
    await house.add("usual")
    house.now += SHAPES_FOR
    real = {shape_of(one) for one in [await asked_for(house, name) for name in ("imported", "hashed", "usual")]}
    assert len(real) == 3
    names = [f"nobody-{number}" for number in range(60)]
    seen = {name: await asked_for(house, name) for name in names}
    assert {shape_of(one) for one in seen.values()} == real
    assert [await asked_for(house, name) for name in names] == list(seen.values())  # a name's is always the same
    assert len(set(seen.values())) == 60


async def asked_for(house: House, name: str) -> Credential:
    before = len(house.threads.asked)
    assert await house.users.check(name, "no such password") is None
    (credential,) = house.threads.asked[before:]
    return credential


@played
async def test_keys_are_those_of_the_user(house: House) -> None:
    await house.book.add("user", RFC_7677, ("bulk",), ())
    await house.add("hashed", scheme=ARGON2ID)
    found = await house.users.keys("user")
    assert found is not None
    assert found[0] == User("user", ("bulk",), ())
    assert found[1].iterations == 4096
    assert await house.users.keys("hashed") is None
    assert await house.users.keys("nobody") is None
    assert house.threads.asked == []


@played
async def test_keys_of_nobody_look_like_those_of_users(house: House) -> None:
    """Of a name always the same, in every worker and after a restart; with iterations that users have."""
    await house.book.add("user", RFC_7677, (), ())
    await house.add("hashed", scheme=ARGON2ID)
    other = house.new_users(seed=3)
    names = [f"nobody-{number}" for number in range(20)]
    first = [await house.users.disguise(name) for name in names]
    assert first == [await other.disguise(name) for name in names]
    assert {keys.iterations for keys in first} == {4096}
    assert len({keys.salt for keys in first}) == 20
    assert {len(keys.salt) for keys in first} == {16}
    await house.book.change("user", RFC_7677.replace("W22ZaJ0SNY7soEsUEjb6gQ==", "A" * 32), None, None)
    house.users.changed(TABLE)
    house.now += SHAPES_FOR
    assert {len((await house.users.disguise(name)).salt) for name in names} == {24}
    row = await house.records.get(SECRETS, OF_USERS)
    assert row is not None
    assert len(row.value) == 32


@played
async def test_without_users_there_are_keys_too(house: House) -> None:
    keys = await house.users.disguise("nobody")
    assert keys.iterations == SCRAM_ITERATIONS
    assert keys == await house.users.disguise("nobody")
    assert keys != await house.users.disguise("somebody")


@played
async def test_what_users_look_like_is_not_read_again_for_each_change(house: House) -> None:
    await house.add("alice")
    await house.users.keys("alice")
    for _ in range(50):
        house.users.changed(TABLE)
        await house.users.keys("alice")
    assert house.records.scans == 1
    house.now += SHAPES_FOR
    await asyncio.gather(*(house.users.keys("alice") for _ in range(20)))
    assert house.records.scans == 2


@played
async def test_trouble_is_not_a_wrong_password(house: House) -> None:
    await house.add("alice")
    house.records.is_ill = True
    for question in (house.users.check("alice", PASSWORD), house.users.keys("alice"), house.users.disguise("alice")):
        with pytest.raises(AccessTrouble, match="the disk is ill"):
            await question
    house.records.is_ill = False
    assert await house.users.check("alice", PASSWORD) is not None
    house.records.is_ill = True
    assert await house.users.check("alice", PASSWORD) is not None  # remembered


@played
async def test_a_user_of_a_newer_postroad_is_told_to_try_later(house: House) -> None:
    await house.add("alice")
    await house.records.put(TABLE, RecordRow("new", b'{"credential":"$next$"}', None))
    with pytest.raises(AccessTrouble):
        await house.users.check("new", PASSWORD)
    assert await house.users.check("alice", PASSWORD) is not None
    rows, _ = await house.book.page("", 10)
    assert [(row.name, row.scheme) for row in rows] == [("alice", SCRAM), ("new", "")]
    assert await house.book.remove("new")


@played
async def test_nothing_secret_is_in_a_repr(house: House) -> None:
    await house.add("alice")
    await house.users.check("alice", PASSWORD)
    remembered = house.users._remembered["alice"]
    assert repr(remembered) == "_Success('alice')"
