"""The table of states: complete, without dead ends, and drawn as it is."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from postroad.smtp.commands import ChunkStart, LastChunkStart
from postroad.smtp.events import ChunkEnd, Content, DataEnd, Event, Quit, Refused
from postroad.smtp.states import OUT_OF_SEQUENCE, TRANSITIONS, Greeting, State, TlsDone

ROOT = Path(__file__).parents[2]


def test_docs_states_is_current() -> None:
    run = subprocess.run(
        [sys.executable, str(ROOT / "tools" / "draw_states.py"), "--check"], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stdout


def test_every_state_has_its_row() -> None:
    assert set(TRANSITIONS) == set(State)


def test_every_event_that_needs_a_reply_has_a_transition() -> None:
    known = {event for row in TRANSITIONS.values() for event in row}
    ours = {Greeting, TlsDone, ChunkStart, LastChunkStart}
    assert known - ours == set(Event.__args__) - {Content}


def followers(state: State) -> set[State]:
    return {after for step in TRANSITIONS[state].values() for after in step if after is not None}


@pytest.mark.parametrize("state", State, ids=lambda state: state.name)
def test_every_state_is_reached_and_leads_to_the_end(state: State) -> None:
    reached = {State.CONNECTED}
    while more := {after for known in reached for after in followers(known)} - reached:
        reached |= more
    assert state in reached
    ahead = {state}
    while more := {after for known in ahead for after in followers(known)} - ahead:
        ahead |= more
    assert State.CLOSED in ahead


def test_no_transition_skips_the_reply_to_content() -> None:
    """Content is ended by its own event and by nothing else."""
    for state, end in ((State.DATA, DataEnd), (State.CHUNK, ChunkEnd), (State.LAST_CHUNK, ChunkEnd)):
        assert set(TRANSITIONS[state]) == {end}
    assert set(TRANSITIONS[State.AUTH]) - {Refused} != set()
    assert Quit in TRANSITIONS[State.FAILED]


def test_what_is_out_of_sequence_is_not_in_the_table_as_well() -> None:
    for state, event in OUT_OF_SEQUENCE:
        step = TRANSITIONS[state].get(event)
        assert step is None or step.done is None
