"""Every face that the world reaches the code by has a contract test, run on the real thing and on the shipped fake."""

from __future__ import annotations

import re

import pytest
from tests.structure.source import ROOT

from postroad.core import faces
from postroad.spool.face import Spool

NAMES = [face.__name__ for face in (*faces.CONTRACTS, Spool)]


@pytest.mark.parametrize("name", NAMES)
def test_a_face_has_its_contract_test(name: str) -> None:
    path = ROOT / "tests" / "contracts" / f"test_{name.lower()}.py"
    assert path.exists(), f"tests/contracts/test_{name.lower()}.py is missing"
    assert re.search(r"^(async )?def test_", path.read_text(encoding="utf-8"), re.M), "it holds no test"


def test_the_list_of_faces_is_whole() -> None:
    """A Protocol added to core.faces is a face, unless it is only handed out by one (an open file)."""
    protocols = {
        name for name, value in vars(faces).items() if isinstance(value, type) and getattr(value, "_is_protocol", False)
    } - {"Protocol"}
    assert protocols - set(NAMES) == {"DiskFile"}
