"""Write docs/reference/openapi.json: what the control API says of itself.

Owns: the file's form. Does not own: its content (src/postroad/http). tests/units/test_http_openapi.py compares the two.
Run it with the interpreter of the environment: .venv/bin/python tools/write_openapi.py
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import cast

from postroad.http.app import make_app
from postroad.outbound.relay import RelaySteering

DOCUMENT = Path(__file__).resolve().parents[1] / "docs" / "reference" / "openapi.json"


def main() -> None:
    document = make_app(lambda who: cast(RelaySteering, None)).openapi()
    DOCUMENT.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
