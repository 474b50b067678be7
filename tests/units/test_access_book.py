"""Users as they are kept: added once, changed, removed and listed; what cannot be right is refused."""

from __future__ import annotations

import asyncio

import pytest
from tests.units.test_access_credentials import ARGON, RFC_7677
from tests.units.test_access_users import House, played

from postroad.access.book import UserExistsError, WrongUserError
from postroad.access.credentials import SCRAM


@played
async def test_users_are_added_once_changed_and_removed(house: House) -> None:
    book, clock = house.book, house.clock
    row = await book.add("alice", RFC_7677, (), ())
    assert (row.name, row.scheme, row.scopes, row.send_as) == ("alice", SCRAM, ("relay",), ())
    assert row.created_at == row.changed_at == clock.now()
    with pytest.raises(UserExistsError):
        await book.add("alice", ARGON, (), ())
    clock.advance(10)
    changed = await book.change("alice", ARGON, None, ("A@Example.ORG", "b\u00fccher.example"))
    assert changed is not None
    assert (changed.scheme, changed.scopes) == ("argon2id", ("relay",))
    assert changed.send_as == ("A@example.org", "b\u00fccher.example")
    assert changed.changed_at == changed.created_at + 10
    assert await book.change("bob", ARGON, None, None) is None
    assert await book.page("", 10) == ((changed,), "")
    assert await book.remove("alice") is True
    assert await book.remove("alice") is False
    assert await book.page("", 10) == ((), "")


@played
async def test_two_who_add_the_same_do_not_cross(house: House) -> None:
    added = await asyncio.gather(*(house.book.add("a", RFC_7677, (), ()) for _ in range(2)), return_exceptions=True)
    assert sorted(type(one).__name__ for one in added) == ["UserExistsError", "UserRow"]


@played
async def test_pages_hold_every_user_once(house: House) -> None:
    names = sorted((f"user-{number}" for number in (1, 10, 2, 33)), key=str.encode)
    for name in [*names, "\u00fc", "Z"]:
        await house.book.add(name, RFC_7677, (), ())
    seen, after, pages = [], "", 0
    while pages == 0 or after:
        rows, after = await house.book.page(after, 2)
        seen += [row.name for row in rows]
        pages += 1
    assert seen == ["Z", *names, "\u00fc"]
    assert pages == 3


@pytest.mark.parametrize(
    ("name", "scopes", "send_as", "why"),
    [
        ("", (), (), "empty"),
        (" a", (), (), "no space"),
        ("a\n", (), (), "character"),
        ("x" * 256, (), (), "255 octets"),
        ("a", ("Relay!",), (), "is no scope"),
        ("a", tuple(f"s{n}" for n in range(17)), (), "at most 16"),
        ("a", (), ("not a domain",), "not a domain"),
        ("a", (), ("a@b@c",), "mailbox"),
        ("a", (), tuple(f"d{n}.example" for n in range(101)), "at most 100"),
    ],
)
def test_what_cannot_be_right_is_refused(
    name: str, scopes: tuple[str, ...], send_as: tuple[str, ...], why: str
) -> None:
    async def test(house: House) -> None:
        with pytest.raises(WrongUserError, match=why):
            await house.book.add(name, RFC_7677, scopes, send_as)
        assert await house.book.page("", 10) == ((), "")

    played(test)()


@played
async def test_a_credential_that_cannot_be_checked_is_refused(house: House) -> None:
    with pytest.raises(WrongUserError, match="neither") as refused:
        await house.book.add("alice", "plain password", (), ())
    assert refused.value.__cause__ is None
    assert "plain password" not in str(refused.value)
    await house.book.add("alice", RFC_7677, (), ())
    with pytest.raises(WrongUserError):
        await house.book.change("alice", "plain password", None, None)
