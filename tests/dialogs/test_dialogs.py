"""Protocol transcripts, each played in every way in which its octets may arrive.

A transcript is named after the section of the RFC that it shows; the format is in src/postroad/testing/play.py. To
pin a bug, write the dialog first and watch it fail.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from postroad.testing.play import Dialog, DialogError, EngineTransport, at_once, parse_dialog, play

FOLDER = Path(__file__).parent
DIALOGS = {path.stem: path for path in sorted(FOLDER.glob("*.smtp"))}
WHOLE = 1 << 30


def dialog_of(name: str) -> Dialog:
    return parse_dialog(DIALOGS[name].read_text(encoding="utf-8"))


@pytest.mark.parametrize("piece", [WHOLE, 7, 1], ids=["whole", "sevens", "octet by octet"])
@pytest.mark.parametrize("name", DIALOGS)
def test_dialog(name: str, piece: int) -> None:
    dialog = dialog_of(name)
    play(dialog, EngineTransport(dialog.options, piece=piece))


@pytest.mark.parametrize("piece", [WHOLE, 64], ids=["whole", "in 64s"])
@pytest.mark.parametrize(
    "name", [name for name in DIALOGS if not any(step.kind == "T" for step in dialog_of(name).steps)]
)
def test_a_client_that_never_listens_hears_the_same(name: str, piece: int) -> None:
    dialog = dialog_of(name)
    play(at_once(dialog), EngineTransport(dialog.options, piece=piece))


def test_there_are_dialogs() -> None:
    assert len(DIALOGS) > 80
    assert Counter(name.split("-")[0] for name in DIALOGS)["rfc5321"] > 40


@pytest.mark.parametrize(
    ("text", "trouble"),
    [
        ("S: 220 *\nC: NOOP\nS: 251 *\n", "line 3"),
        ("S: 220 *\nC: NOOP\n", "heard b'250"),
        ("S: 220 *\nC: NOOP\nS: 250 *\nS: 250 *\n", "heard None"),
        ("S: 220 *\nZ:\n", "has not closed"),
        ("O: size=5\nS: 220 *\n", "unknown options size"),
        ("O: size_max=many\nS: 220 *\n", "line 1"),
        ("S: 220 *\nQ: what\n", "is no step"),
        ("S: 220 *\nM: kept\n", "to be kept"),
    ],
    ids=lambda value: value if value[:2] not in ("S:", "O:") else "",
)
def test_the_player_notices(text: str, trouble: str) -> None:
    def play_it() -> None:
        dialog = parse_dialog(text)
        play(dialog, EngineTransport(dialog.options, piece=WHOLE))

    with pytest.raises(DialogError, match=trouble):
        play_it()


def test_the_player_notices_content_that_nobody_expects() -> None:
    text = DIALOGS["rfc5321-3.3-one-message"].read_text(encoding="utf-8")
    dialog = parse_dialog("".join(line for line in text.splitlines(keepends=True) if not line.startswith("M: world")))
    with pytest.raises(DialogError, match="was kept too"):
        play(dialog, EngineTransport(dialog.options, piece=WHOLE))
