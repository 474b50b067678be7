"""The control API: one FastAPI application for all doors.

Owns: which routes there are, /openapi.json, how errors look. Does not own: who may come in (peer.py, gate.py), what the
routes do (api_*.py), the sockets (serve.py). Imported by the front process alone: it takes a third of a second.

The pages that FastAPI draws of the document fetch scripts from elsewhere, so there are none.
"""

from __future__ import annotations

from collections.abc import Callable

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from postroad import __version__
from postroad.http import api_destinations, api_machines, api_queue, api_relay, api_users
from postroad.http.answers import on_fault, on_no_route, on_refused, on_wrong_request
from postroad.http.api_machines import Machines
from postroad.http.turns import Turns
from postroad.outbound.relay import RelaySteering
from postroad.outbound.steering import ControlRefused

ITSELF = "postroad"
"""In whose name the relay asks itself, for /metrics and /healthz."""
DESCRIPTION = """See and steer a relay. On the Unix socket `data_dir/control.sock` for root, the user of the relay and
members of its group; on TCP (`[http] address`) everything but users may be read and nothing changed."""


def make_app(relay_for: Callable[[str], RelaySteering]) -> FastAPI:
    """Return the application. ``relay_for`` gives what a person may do, by name; it is asked for each request."""
    app = FastAPI(
        title="Postroad",
        version=__version__,
        description=DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        openapi_url="/openapi.json",
        redirect_slashes=False,
        exception_handlers={
            ControlRefused: on_refused,
            RequestValidationError: on_wrong_request,
            HTTPException: on_no_route,
            Exception: on_fault,
        },
    )
    app.state.relay_for = relay_for
    app.state.turns = Turns.of_doors()
    app.state.machines = Machines(relay_for(ITSELF))
    steered = (api_queue.router, api_destinations.router, api_users.router)
    for router in (*steered, api_relay.streams, api_relay.router, api_machines.router):
        app.include_router(router)
    return app
