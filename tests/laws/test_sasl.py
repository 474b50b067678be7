"""Laws of authentication: two implementations agree, only who knows a password gets in, nothing else is raised.

The other implementation is scramp."""

from __future__ import annotations

import pytest
from hypothesis import assume, event, given, settings
from hypothesis import strategies as st
from scramp import ScramClient, ScramException, ScramMechanism

from postroad.core import reply
from postroad.smtp import scram
from postroad.smtp.sasl import (
    Challenge,
    Failed,
    NeedKeys,
    NeedPassword,
    ScramKeys,
    Step,
    Succeeded,
    derive_keys,
    derive_salted,
)
from postroad.smtp.sasl_client import ClientExchange, GiveUp, NeedSalted, Respond
from postroad.smtp.sasl_server import MECHANISMS, Exchange, begin
from postroad.smtp.saslprep import NotPrepared, prepare

BINDING = bytes(range(32))
SALT = b"0123456789abcdef"
KEYS = derive_keys("pencil", SALT, 4096)
OTHER = derive_keys("Pencil", SALT, 4096)
DISGUISE = ScramKeys(4096, SALT, bytes(32), bytes(32))
SCRAM = ("SCRAM-SHA-256", "SCRAM-SHA-256-PLUS")
REFUSALS = {500, 501, 535}

# What a grammar trips over: separators, escapes, other forms of one character, directions, what disappears.
PIECES = [
    "a",
    "b",
    ",",
    "=",
    "=2C",
    "=3D",
    "\u00ad",
    "\u00fc",
    "u\u0308",
    "\ufb01",
    "\u2168",
    "\u00a0",
    " ",
    "\u0628",
    "%",
    "\\",
]
texts = st.lists(st.sampled_from(PIECES), min_size=1, max_size=8).map("".join)


def is_preparable(text: str) -> bool:
    try:
        prepare(text)
    except NotPrepared:
        return False
    return True


names = texts.filter(is_preparable)
bindings = st.sampled_from([b"", BINDING])


def served(mechanism: str, binding: bytes = b"") -> Exchange:
    return begin(mechanism, nonce=lambda: "server", binding=binding)


# --- both implementations, in both places --------------------------------------------------------------


@settings(deadline=None)
@given(names, names, st.booleans(), bindings)
def test_scramps_client_gets_in(user: str, password: str, is_right: bool, binding: bytes) -> None:
    mechanism = SCRAM[bool(binding)]
    channel = ("tls-server-end-point", binding) if binding else None
    client = ScramClient([mechanism], user, password if is_right else password * 2, channel_binding=channel)
    ours = served(mechanism, binding)
    assert ours.start(client.get_client_first().encode()) == NeedKeys(prepare(user))
    step = ours.use_keys(derive_keys(prepare(password), SALT, 4096), disguise=DISGUISE)
    assert isinstance(step, Challenge)
    client.set_server_first(step.octets.decode())
    step = ours.step(client.get_client_final().encode())
    if not is_right:
        assert step == Failed(reply.BAD_CREDENTIALS)
        return
    assert isinstance(step, Challenge)
    client.set_server_final(step.octets.decode())
    assert ours.step(b"") == Succeeded(prepare(user))


@settings(deadline=None)
@given(names, names, st.booleans(), bindings)
def test_our_client_gets_in_with_scramp(user: str, password: str, is_right: bool, binding: bytes) -> None:
    mechanism = SCRAM[bool(binding)]
    channel = ("tls-server-end-point", binding) if binding else None
    maker = ScramMechanism(mechanism)
    book = {prepare(user): maker.make_auth_info(password, iteration_count=4096)}
    server = maker.make_server(book.__getitem__, channel_binding=channel)
    ours = ClientExchange(mechanism, user, password if is_right else password * 2, binding=binding, nonce=lambda: "c")
    server.set_client_first(said(ours.start()))
    step = ours.challenged(server.get_server_first().encode())
    assert isinstance(step, NeedSalted)
    final = said(ours.use_salted(derive_salted(step.password, step.salt, step.iterations)))
    assert not ours.is_complete
    try:
        server.set_client_final(final)
    except ScramException:
        assert not is_right
        assert isinstance(ours.challenged(server.get_server_final().encode()), GiveUp)
        return
    assert said(ours.challenged(server.get_server_final().encode())) == ""
    assert ours.is_complete


def said(step: object) -> str:
    assert isinstance(step, Respond)
    assert step.octets is not None
    return step.octets.decode()


@settings(deadline=None)
@given(st.sampled_from(MECHANISMS), names, names)
def test_our_client_gets_in_with_us(mechanism: str, user: str, password: str) -> None:
    binding = BINDING if mechanism.endswith("PLUS") else b""
    client = ClientExchange(mechanism, user, password, binding=binding, nonce=lambda: "client")
    server = served(mechanism, binding)
    spoken = client.start()
    assert isinstance(spoken, Respond)
    step = server.start(spoken.octets)
    while not isinstance(step, Succeeded):
        if isinstance(step, NeedPassword):
            assert (step.user, step.password) == (prepare(user), prepare(password))
            step = server.decide(step.user)
        elif isinstance(step, NeedKeys):
            step = server.use_keys(derive_keys(prepare(password), SALT, 4096), disguise=DISGUISE)
        else:
            assert isinstance(step, Challenge)
            answer = client.challenged(step.octets)
            if isinstance(answer, NeedSalted):
                answer = client.use_salted(derive_salted(answer.password, answer.salt, answer.iterations))
            assert isinstance(answer, Respond)
            step = server.step(answer.octets)
    assert step.user == prepare(user)
    assert client.is_complete


# --- hostile messages, judged by both ------------------------------------------------------------------

WORDS = [
    *(
        "n,,",
        "y,,",
        "p=tls-server-end-point,,",
        "p=tls-unique,,",
        "p=,,",
        "n,a=user,",
        "n,a=,",
        ",",
        ",,",
        "=",
        "==",
        "n",
    ),
    *("n=user", "n=", "n=us=2Cer", "n=us=3Der", "n=us=2cer", "n=us=er", "r=abc", "r=", "r=a c", "r=a=c", "m=1", "m="),
    *("x=1", "Z==", "x=", "x", "1=1", "i=99999999999", "s=AAAA", "c=biws", "p=AAAA", "\0", "\n", "\r\n", " ", "\u00fc"),
    *("\u00ad", "\u2028", "\u0628", "\x7f", "n,,n=user,r=abc", "p=tls-server-end-point,,n=user,r=abc"),
]


def bent(message: str) -> st.SearchStrategy[str]:
    """The message with words put into it, and pieces of it left out or moved."""

    @st.composite
    def build(draw: st.DrawFn) -> str:
        text = message
        for _ in range(draw(st.integers(0, 2))):
            begin_at, end_at = sorted((draw(st.integers(0, len(text))), draw(st.integers(0, len(text)))))
            new = draw(
                st.sampled_from(["", ",", ",x=1", "u", *WORDS, text[begin_at:end_at] * 2, "," + text[begin_at:end_at]])
            )
            text = text[:begin_at] + new + text[draw(st.sampled_from([begin_at, end_at])) :]
        return text

    return build()


firsts = st.one_of(
    bent("n,,n=user,r=abc"),
    bent("y,,n=user,r=abc,x=1"),
    bent("p=tls-server-end-point,,n=user,r=abc"),
    st.lists(st.sampled_from(WORDS), max_size=8).map(",".join),
    st.lists(st.sampled_from(WORDS), max_size=8).map("".join),
)


def is_named_difference(first: str, mechanism: str) -> bool:
    """What scramp does in another way on purpose."""
    header, attributes = first.split(",", 2)[:2], first.split(",")[2:]
    extensions = [one[0] for one in attributes[2:]]
    return (
        header[1] != ""  # any authorization identity: scramp refuses it, we the one that is not the user's own
        or len(extensions) != len(set(extensions))  # an extension said twice: scramp refuses, we ignore extensions
        or (header[0][0] == "p" and not mechanism.endswith("PLUS"))  # scramp goes on as if it were -PLUS
    )


@settings(max_examples=500, deadline=None)
@given(firsts, st.sampled_from([(SCRAM[0], b""), (SCRAM[0], BINDING), (SCRAM[1], BINDING)]))
def test_first_messages_are_judged_alike(first: str, kind: tuple[str, bytes]) -> None:
    mechanism, binding = kind
    asked = []
    channel = ("tls-server-end-point", binding) if binding else None
    theirs = ScramMechanism(mechanism).make_server(
        lambda user: asked.append(user) or (SALT, KEYS.stored_key, KEYS.server_key, 4096), channel_binding=channel
    )
    step = served(mechanism, binding).start(first.encode())
    try:
        theirs.set_client_first(first)
    except ScramException:
        taken = False
    else:
        taken = True
    event(f"taken: {taken}")
    if isinstance(step, NeedKeys) is taken:
        assert not taken or [step.user] == asked
    else:
        assert is_named_difference(first, mechanism)


@settings(max_examples=300, deadline=None)
@given(st.data(), st.sampled_from([(SCRAM[0], b""), (SCRAM[1], BINDING)]))
def test_a_final_message_that_was_touched_never_gets_in(data: st.DataObject, kind: tuple[str, bytes]) -> None:
    mechanism, binding = kind
    channel = ("tls-server-end-point", binding) if binding else None
    client = ScramClient([mechanism], "user", "pencil", channel_binding=channel, c_nonce="client")
    ours = served(mechanism, binding)
    ours.start(client.get_client_first().encode())
    step = ours.use_keys(KEYS, disguise=DISGUISE)
    assert isinstance(step, Challenge)
    client.set_server_first(step.octets.decode())
    right = client.get_client_final()
    final = data.draw(bent(right))
    assume(final != right)
    answer = ours.step(final.encode())
    assert isinstance(answer, Failed)
    assert answer.reply.code in REFUSALS


@pytest.mark.parametrize("at", range(32))
def test_a_wrong_binding_never_gets_in(at: int) -> None:
    """A man in the middle has a certificate of his own: the client binds to that."""
    seen = bytes(octet ^ (number == at) for number, octet in enumerate(BINDING))
    channel = ("tls-server-end-point", seen)
    client = ScramClient(["SCRAM-SHA-256-PLUS"], "user", "pencil", channel_binding=channel)
    ours = served("SCRAM-SHA-256-PLUS", BINDING)
    ours.start(client.get_client_first().encode())
    step = ours.use_keys(KEYS, disguise=DISGUISE)
    assert isinstance(step, Challenge)
    client.set_server_first(step.octets.decode())
    assert ours.step(client.get_client_final().encode()) == Failed(reply.BINDING_WRONG)


def test_a_client_that_was_offered_no_plus_is_refused() -> None:
    """As above, but -PLUS was taken out of what we offered."""
    client = ScramClient(["SCRAM-SHA-256"], "user", "pencil", channel_binding=("tls-server-end-point", BINDING))
    assert served("SCRAM-SHA-256", BINDING).start(client.get_client_first().encode()) == Failed(
        reply.BINDING_DOWNGRADED
    )


# --- anything at all -----------------------------------------------------------------------------------

OCTETS = [
    *(word.encode() for word in WORDS),
    *(
        b"",
        b"\0",
        b"\0user\0pencil",
        b"other\0user\0pencil",
        b"\0\0",
        b"user",
        b"\xff",
        b"\xc3",
        b"\xed\xa0\x80",
        b"x" * 5000,
    ),
    *(b"c=biws,r=abcserver,p=" + b"A" * 43 + b"=", b"c=biws,r=abcserver,p=AAAA", b"c=eSws,r=abc,p=AAAA", b"\0" * 300),
]
octets = st.lists(st.sampled_from(OCTETS), max_size=4).map(b"".join)


def played(mechanism: str, said: list[bytes | None], keys: ScramKeys | None, user: str | None) -> list[Step]:
    """What we say to a client that says this, and in the end cancels."""
    exchange = served(mechanism, BINDING if mechanism.endswith("PLUS") else b"")
    words = iter(said)
    steps = [exchange.start(next(words, None))]
    while not isinstance(steps[-1], Succeeded | Failed):
        last = steps[-1]
        if isinstance(last, NeedKeys):
            steps.append(exchange.use_keys(keys, disguise=DISGUISE))
        elif isinstance(last, NeedPassword):
            steps.append(exchange.decide(user))
        else:
            steps.append(exchange.step(next(words, None)))
    return steps


@settings(max_examples=500, deadline=None)
@given(st.sampled_from(MECHANISMS), st.lists(st.none() | octets | firsts.map(str.encode), max_size=4))
def test_whoever_does_not_know_the_password_is_refused_in_one_way(mechanism: str, said: list[bytes | None]) -> None:
    """Known or not: the same steps, and the same in them."""
    known = played(mechanism, said, OTHER, None)
    last = known[-1]
    assert isinstance(last, Failed)
    assert last.reply.code in REFUSALS
    event(f"{len(known)} steps, {last.reply.code}")
    assert played(mechanism, said, None, None) == known


# --- where we are the client ---------------------------------------------------------------------------

RIGHT = "r=clientserver,s=MDEyMzQ1Njc4OWFiY2RlZg==,i=4096"
challenges = st.one_of(
    bent(RIGHT).map(str.encode),
    octets,
    st.sampled_from([b"r=clients,s=AAAA,i=4095", b"r=clients,s=AAAA,i=1000001", b"r=clients,s=AAAA,i=2147483647"]),
    st.sampled_from([b"r=clients,s=AAAA,i=1000000", b"r=client,s=AAAA,i=4096", b"v=AAAA", b"e=other-error", b"e=<x>"]),
)


@settings(max_examples=500, deadline=None)
@given(st.sampled_from(MECHANISMS), st.lists(challenges, max_size=5))
def test_a_server_that_does_not_know_the_password_is_never_taken_for_ours(mechanism: str, said: list[bytes]) -> None:
    client = ClientExchange(mechanism, "user", "pencil", binding=BINDING, nonce=lambda: "client")
    step: object = client.start()
    for word in said:
        if isinstance(step, GiveUp):
            break
        step = client.challenged(word)
        if isinstance(step, NeedSalted):
            assert 4096 <= step.iterations <= 1_000_000
            step = client.use_salted(bytes(32))
        assert not (mechanism in SCRAM and client.is_complete)
    event(type(step).__name__)


@pytest.mark.parametrize("word", ["=", "=2C", "n=", ",", ",x=", "r=", "a", "A=", "n,a=", "\u00fc"])
def test_long_hostile_messages_take_linear_time(word: str) -> None:
    text = word * (200_000 // len(word))
    for prefix in ("", "n,a=", "n,,n=", "n,,n=a,r=b", "c=biws,r=a", "r=a,s=b,i=1", "v=AAAA", "e=a"):
        for pattern in (scram.CLIENT_FIRST, scram.CLIENT_FINAL, scram.SERVER_FIRST, scram.SERVER_FINAL):
            pattern.fullmatch(prefix + text)
