"""xtext and the addresses of type utf-8, both ways; and no expression takes more than linear time."""

from __future__ import annotations

import re
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postroad.smtp import grammar
from postroad.smtp.grammar import format_utf8_address, format_xtext, parse_utf8_address, parse_xtext

printable = st.text(st.sampled_from("+= \\{}x") | st.characters(min_codepoint=32, max_codepoint=126), max_size=20)
# The grammar has no way to write what cannot be printed, so such an address is none.
addresses = st.text(st.sampled_from("+= \\{}xüé漢\U0001f600") | st.characters(codec="utf-8"), min_size=1).filter(
    str.isprintable
)


@given(printable)
def test_xtext_there_and_back(text: str) -> None:
    wire = format_xtext(text)
    assert parse_xtext(wire) == text
    assert re.fullmatch(r"([!-*,-<>-~]|\+[0-9A-F]{2})*", wire)


@given(addresses, st.booleans())
def test_utf8_addresses_there_and_back(address: str, ascii_only: bool) -> None:
    wire = format_utf8_address(address, ascii_only=ascii_only)
    assert parse_utf8_address(wire) == address
    assert wire.isascii() or not ascii_only
    assert not set(wire) & set("+= ")


def test_forms_of_rfc_6533() -> None:
    assert format_utf8_address("jürgen+x@例.example", ascii_only=True) == r"j\x{FC}rgen\x{2B}x@\x{4F8B}.example"
    assert format_utf8_address("jürgen+x@例.example", ascii_only=False) == r"jürgen\x{2B}x@例.example"


@pytest.mark.parametrize(
    "text", ["a b", "a=b", "+", "+4", "+4G", "+4a", "+0A", "+0D+0A", "+00", "+7F", "+80", "ü", "\x7f"]
)
def test_no_xtext(text: str) -> None:
    with pytest.raises(ValueError):
        parse_xtext(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a b",
        "a+b",
        "a=b",
        "\\",
        "\\x{",
        "\\x{}",
        "\\x{G0}",
        "\\x{0A}",
        "\\x{85}",
        "\\x{D800}",
        "\\x{110000}",
        "\\x{2028}",
        "\x7f",
    ],
)
def test_no_utf8_address(text: str) -> None:
    with pytest.raises(ValueError):
        parse_utf8_address(text)


HOSTILE = ['"', '\\"', '"a"', "<", ">", '"<', "a ", "=", "a=", "+", "+4", "\\x{", "\\x{1", " ", "\\", "@", "ü"]


@pytest.mark.parametrize("word", HOSTILE)
def test_long_hostile_lines_take_linear_time(word: str) -> None:
    """A hundred times more than any line may have: a quadratic expression would take minutes."""
    text = word * (200_000 // len(word))
    for prefix in ("", "MAIL FROM:<", "RCPT TO:<", 'MAIL FROM:<"', "MAIL FROM:<> "):
        for pattern in (grammar.MAIL, grammar.RCPT, grammar.PARAMETER):
            pattern.fullmatch(prefix + text)
        for plain in (grammar.PLAIN_MAIL, grammar.PLAIN_RCPT, grammar.HELLO, grammar.BDAT, grammar.AUTH):
            plain.fullmatch((prefix + text).encode())
    for parse in (parse_xtext, parse_utf8_address):
        try:
            parse(text)
        except ValueError:
            continue


def test_the_plain_forms_take_what_the_full_ones_take() -> None:
    """The fast way may not be another grammar: whatever it takes the full one takes, with the same path."""
    for path in ("", "a@b", *(f"a{sign}@b" for sign in string.punctuation)):
        for verb, plain, full in (
            ("MAIL FROM", grammar.PLAIN_MAIL, grammar.MAIL),
            ("RCPT TO", grammar.PLAIN_RCPT, grammar.RCPT),
        ):
            line = f"{verb}:<{path}>"
            fast = plain.fullmatch(line.encode())
            slow = full.fullmatch(line)
            if fast is not None:
                assert slow is not None
                assert slow[1] == fast[1].decode() == path
            else:
                assert set(path) & set('"\\<>')
