"""Laws of message content: DATA and BDAT, for every content and every way to cut it."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from postroad.smtp.chunk import ChunkReader
from postroad.smtp.data import DataReader, has_bare_newline
from postroad.smtp.errors import DriverError, PeerError

# Random octets hardly ever start a line with a dot, or end one by half.
WORDS = [
    b".",
    b"..",
    b"\r\n",
    b"\r\n.",
    b"\r\n..",
    b"\r\n.\r\n",
    b"\r",
    b"\n",
    b".\r\n",
    b".\n",
    b"\n.\n",
    b"\r.\r",
    b"\r.a",
    b"\n.a",
    b"a",
    b"\0",
]
CLEAN = [b".", b"..", b"...", b"a", b".a", b"a.", b"\0\x80\xff", b"x" * 70]
octets = st.lists(st.sampled_from(WORDS) | st.binary(max_size=3), max_size=30).map(b"".join)
clean_lines = st.lists(st.sampled_from(CLEAN) | st.just(b""), max_size=20)
cuts = st.lists(st.integers(1, 12), min_size=1, max_size=10)
SIZE_MAX = 10_000


def pieces(stream: bytes, lengths: list[int]) -> list[bytes]:
    """Cut ``stream`` into pieces of these lengths, again and again."""
    found, start, number = [], 0, 0
    while start < len(stream):
        found.append(stream[start : start + lengths[number % len(lengths)]])
        start += len(found[-1])
        number += 1
    return found


def stuffed(lines: list[bytes]) -> bytes:
    return b"".join((b"." if line.startswith(b".") else b"") + line + b"\r\n" for line in lines)


def read(
    parts: list[bytes], *, size_max: int = SIZE_MAX, normalize: bool = False
) -> tuple[bytes, int, bool, bytes] | None:
    """Return content, size, whether the final dot came, and what followed it; None if it was refused."""
    reader, content, rest = DataReader(size_max, normalize=normalize), b"", b""
    try:
        for part in parts:
            if reader.is_done:
                rest += part
            else:
                content += reader.feed(part)
                rest += reader.rest
    except PeerError:
        return None
    return content, reader.size, reader.is_done, rest


def line_by_line(stream: bytes) -> tuple[bytes, bytes] | None:
    """RFC 5321 section 4.5.2 as it is written, normalized: content and what follows it, None if it does not end."""
    content, after_crlf = b"", True
    for match in re.finditer(rb"(.*?)(\r\n|\r|\n)", stream, re.DOTALL):
        line, end = match[1], match[2]
        if line == b"." and end == b"\r\n" and after_crlf:
            return content, stream[match.end() :]
        if line.startswith(b".") and line != b".":
            line = line[1:]
        content += line + b"\r\n"
        after_crlf = end == b"\r\n"
    return None


@given(clean_lines, cuts)
def test_stuffing_is_undone_exactly(lines: list[bytes], lengths: list[int]) -> None:
    content = b"".join(line + b"\r\n" for line in lines)
    stream = stuffed(lines) + b".\r\nQUIT\r\n"
    assert read(pieces(stream, lengths)) == read([stream]) == (content, len(content), True, b"QUIT\r\n")


@settings(max_examples=400)
@given(octets, cuts, st.integers(0, 20), st.booleans())
def test_how_content_arrives_changes_nothing(stream: bytes, lengths: list[int], size_max: int, normalize: bool) -> None:
    stream += b"\r\n.\r\n"  # so that nothing is held back at the end
    whole = read([stream], size_max=size_max, normalize=normalize)
    assert read(pieces(stream, lengths), size_max=size_max, normalize=normalize) == whole
    assert read(pieces(stream, [1]), size_max=size_max, normalize=normalize) == whole


@settings(max_examples=400)
@given(octets)
def test_what_is_taken_is_what_was_sent(stream: bytes) -> None:
    stream += b"\r\n.\r\n"
    found = line_by_line(stream)
    assert found is not None
    expected, rest = found
    raw = stream[: len(stream) - len(rest)]
    taken = read([stream])
    if has_bare_newline(raw):
        assert taken is None
    else:
        assert taken == (expected, len(expected), True, rest)


@settings(max_examples=400)
@given(octets)
def test_normalized_content_is_that_of_a_reader_of_lines(stream: bytes) -> None:
    stream += b"\r\n.\r\n"
    found = line_by_line(stream)
    assert found is not None
    assert read([stream], normalize=True) == (found[0], len(found[0]), True, found[1])


@given(octets, st.integers(0, 12), st.booleans())
def test_content_is_clean_and_bounded(stream: bytes, size_max: int, normalize: bool) -> None:
    """No bare newline gets through, and past ``size_max`` nothing is kept while all of it is counted."""
    taken = read([stream], size_max=size_max, normalize=normalize)
    if taken is None:
        assert not normalize
        return
    content, size, _, _ = taken
    assert len(content) == min(size, size_max)
    assert not has_bare_newline(content[:-1] if content.endswith(b"\r") and size > size_max else content)


@given(octets, st.sampled_from([b"", b"x" * 65_536]))
@example(b"\n\r", b"")
@example(b"\n\r", b"x" * 65_536)
def test_bare_newlines_are_found(stream: bytes, more: bytes) -> None:
    """Small buffers are looked at in one way, large ones in another."""
    stream += more
    assert has_bare_newline(stream) == bool(re.search(rb"\r(?!\n)|(?<!\r)\n", stream))


# --- BDAT ------------------------------------------------------------------------------------------------


def read_chunks(chunks: list[bytes], lengths: list[int], *, is_binary: bool, normalize: bool = False) -> bytes | None:
    reader, content = ChunkReader(SIZE_MAX, is_binary=is_binary, normalize=normalize), b""
    try:
        for number, chunk in enumerate(chunks, start=1):
            reader.begin(len(chunk), is_last=number == len(chunks))
            for part in pieces(chunk, lengths) or [b""]:
                content += reader.feed(part)
                assert reader.rest == b""
            assert reader.is_done
    except PeerError:
        return None
    assert reader.size == len(content)
    return content


@given(st.lists(octets, min_size=1, max_size=5), cuts)
def test_binary_chunks_are_kept_as_they_are(chunks: list[bytes], lengths: list[int]) -> None:
    assert read_chunks(chunks, lengths, is_binary=True) == b"".join(chunks)


@settings(max_examples=400)
@given(octets, cuts, cuts, st.booleans())
def test_how_a_message_is_cut_into_chunks_changes_nothing(
    stream: bytes, chunk_sizes: list[int], lengths: list[int], normalize: bool
) -> None:
    whole = None if has_bare_newline(stream) else stream
    if normalize:
        whole = re.sub(rb"\r\n|\r|\n", b"\r\n", stream)
    chunks = pieces(stream, chunk_sizes) or [b""]
    assert read_chunks(chunks, lengths, is_binary=False, normalize=normalize) == whole


@given(st.binary(max_size=20), st.binary(max_size=20))
def test_what_follows_a_chunk_is_given_back(chunk: bytes, rest: bytes) -> None:
    reader = ChunkReader(SIZE_MAX, is_binary=True)
    reader.begin(len(chunk), is_last=True)
    assert reader.feed(chunk + rest) == chunk
    assert reader.rest == rest


def test_readers_are_loud_when_driven_wrongly() -> None:
    reader = DataReader(SIZE_MAX)
    reader.feed(b".\r\n")
    with pytest.raises(DriverError):
        reader.feed(b"more")
    chunks = ChunkReader(SIZE_MAX, is_binary=False)
    chunks.begin(5, is_last=False)
    with pytest.raises(DriverError):
        chunks.begin(5, is_last=False)
    chunks.feed(b"12345")
    chunks.begin(0, is_last=True)
    with pytest.raises(DriverError):
        chunks.begin(5, is_last=False)
