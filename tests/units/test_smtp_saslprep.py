"""SASLprep, by the examples of RFC 4013 and some more."""

from __future__ import annotations

import pytest

from postroad.smtp.saslprep import NotPrepared, prepare


@pytest.mark.parametrize(
    ("text", "prepared"),
    [  # RFC 4013 section 3
        ("I\u00adX", "IX"),
        ("user", "user"),
        ("USER", "USER"),
        ("\u00aa", "a"),
        ("\u2168", "IX"),
        ("\u0007", None),
        ("\u0627\u0031", None),
        # and more
        ("\u06271\u0628", "\u06271\u0628"),
        ("a\u0627", None),
        ("\u0627a\u0628", None),
        ("a\u3000b", "a b"),
        ("\u00ad", None),
        ("", None),
        ("tab\there", None),
        ("\u200e", None),
        ("\ue000", None),
        ("\ufdd0", None),
        ("\ufffd", None),
        (chr(0xDC80), None),
        ("\U000e0041", None),
        ("\U0001f511", "\U0001f511"),  # not in Unicode 3.2
        ("u\u0308", "\u00fc"),
    ],
)
def test_saslprep(text: str, prepared: str | None) -> None:
    if prepared is not None:
        assert prepare(text) == prepared
        assert prepare(prepared) == prepared
        return
    with pytest.raises(NotPrepared) as why:
        prepare(text)
    assert text == "" or text not in str(why.value)
