"""The options of sendmail(8), as Postfix's sendmail(1) takes them, read by hand.

Owns: the grammar (values attached or apart, letters joined, options anywhere before ``--``), what each letter means
here, which are taken and mean nothing. Does not own: doing any of it (sendmail.py). No program that has called some
sendmail for decades must break on a letter: an unknown one is told on standard error and left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

WITH_VALUE: Final = "ABCFLNOQRVXbefhopqrd"
"""Letters whose value follows: in the same word, else in the next one. ``-e``, ``-o``, ``-q`` and ``-d``: only the
same word, where it is not empty."""
ALONE: Final = "GIUacimnstvx"
ATTACHED_ONLY: Final = "eqd"
MODES: Final = {
    "m": "deliver",
    "s": "smtp",
    "p": "mailq",
    "i": "aliases",
    "h": "nothing",
    "H": "nothing",
    "d": "",
    "v": "",
    "t": "",
}
"""What ``-bX`` asks for; empty: what we do not do."""
NOTIFY: Final = frozenset({"success", "failure", "delay"})
ENVELOPE_ID_MAX: Final = 100
"""Characters. RFC 3461 section 4.4."""


class UsageError(Exception):
    """It cannot be meant so: exit status 64. The text is a sentence."""


class Options:
    """What was asked."""

    def __init__(self) -> None:
        self.mode = "deliver"
        """deliver, smtp, mailq, aliases, flush or nothing."""
        self.recipients: list[str] = []
        self.sender: str | None = None
        """``-f``; None: who calls."""
        self.full_name: str | None = None
        self.from_header = False
        """``-t``: recipients stand in the header."""
        self.dot_ends = True
        self.notify = ""
        """As RFC 3461 section 4.1 writes it; empty: not said."""
        self.returned = ""
        self.envelope_id = ""
        self.body = ""
        self.verbose = False
        self.config: Path | None = None
        self.flushed = ""
        """``-qRdomain`` or ``-qIid``, without the ``q``; empty: the whole queue."""
        self.away_status = 75
        """Exit status where the relay is away: EX_TEMPFAIL."""
        self.as_json = False
        self.ignored: list[str] = []
        """Options that are not known here."""


def parse_options(arguments: Sequence[str], mode: str = "deliver") -> Options:
    """Return what the arguments ask for. ``mode``: what the name of the program asks for.

    Raises:
        UsageError: a value is missing or wrong, or two options contradict each other.
    """
    options = Options()
    options.mode = mode
    words = iter(arguments)
    for word in words:
        if word == "--":
            options.recipients += words
        elif word.startswith("--"):
            _take_long(options, word, words)
        elif word.startswith("-") and word != "-":
            _take_letters(options, word, words)
        else:
            options.recipients.append(word)
    _check(options)
    return options


def _take_long(options: Options, word: str, words: Iterator[str]) -> None:
    name, equals, value = word.partition("=")
    match name:
        case "--config":
            options.config = Path(value if equals else _next(words, name))
        case "--json":
            options.as_json = True
        case "--no-tempfail":
            options.away_status = 69  # EX_UNAVAILABLE
        case _:
            options.ignored.append(word)


def _take_letters(options: Options, word: str, words: Iterator[str]) -> None:
    """Take a word such as ``-oi``, ``-fA``, ``-ti``, ``-f A``."""
    at = 1
    while at < len(word):
        letter, rest = word[at], word[at + 1 :]
        if letter in WITH_VALUE:
            attached_only = letter in ATTACHED_ONLY
            _take_value(options, letter, rest if rest or attached_only else _next(words, f"-{letter}"))
            return
        if letter not in ALONE:
            options.ignored.append(f"-{word[at:]}")
            return
        _take_alone(options, letter)
        at += 1


def _next(words: Iterator[str], name: str) -> str:
    try:
        return next(words)
    except StopIteration:
        raise UsageError(f"{name} needs a value.") from None


def _take_alone(options: Options, letter: str) -> None:
    match letter:
        case "t":
            options.from_header = True
        case "i":
            options.dot_ends = False
        case "v":
            options.verbose = True
        case "I":
            options.mode = "aliases"
        case "s":  # -bs is one word; -s alone is a subject to somebody who means mail(1)
            options.ignored.append("-s")
        case _:
            pass  # -G -U -a -c -m -n -x: nothing that they say matters here


def _take_value(options: Options, letter: str, value: str) -> None:
    match letter:
        case "f" | "r":
            options.sender = value
        case "F":
            options.full_name = value
        case "b":
            _take_mode(options, value)
        case "o" if value.startswith("i"):
            options.dot_ends = False
        case "B":
            if value.upper() not in ("7BIT", "8BITMIME"):
                raise UsageError("-B takes 7BIT or 8BITMIME.")
            options.body = value.upper()
        case "C":
            options.config = Path(value)
        case "N":
            options.notify = _parse_notify(value)
        case "R":
            returned = {"full": "FULL", "hdrs": "HDRS"}.get(value.lower())
            if returned is None:
                raise UsageError("-R takes full or hdrs.")
            options.returned = returned
        case "V":
            if not value or len(value) > ENVELOPE_ID_MAX or not (value.isascii() and value.isprintable()):
                raise UsageError(f"-V takes up to {ENVELOPE_ID_MAX} printable ASCII characters.")
            options.envelope_id = value
        case "q":
            _take_flush(options, value)
        case _:
            pass  # -A -L -O -Q -X -d -e -h -o -p: nothing that they say matters here


def _take_mode(options: Options, value: str) -> None:
    mode = MODES.get(value[:1])
    if mode is None:
        raise UsageError(f"-b{value} is not known.")
    if not mode:
        advice = " The relay runs by: postroad serve" if value.startswith("d") else ""
        raise UsageError(f"-b{value} is not done here.{advice}")
    options.mode = mode


def _take_flush(options: Options, value: str) -> None:
    if value[:1].isdigit():
        options.mode = "nothing"  # an interval, for a daemon: the relay has its own
    elif value[:1] in ("", "R", "I", "f"):
        options.mode = "flush"
        options.flushed = value if value[:1] in ("R", "I") else ""
        if value in ("R", "I"):
            raise UsageError(f"-q{value} needs a value: -qRdomain or -qIid.")
    else:
        raise UsageError(f"-q{value} is not done here.")


def _parse_notify(value: str) -> str:
    words = [word.strip().lower() for word in value.split(",")]
    if words == ["never"] or (words and set(words) <= NOTIFY):
        return ",".join(word.upper() for word in dict.fromkeys(words))
    raise UsageError("-N takes never, or success, failure and delay with commas between.")


def _check(options: Options) -> None:
    if options.from_header and options.mode != "deliver":
        raise UsageError("-t is for mail that is handed in: leave it out.")
    if options.recipients and options.mode in ("mailq", "smtp", "flush"):
        raise UsageError("Recipients are for mail that is handed in: leave them out.")
