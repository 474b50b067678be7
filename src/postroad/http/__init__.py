"""The control API, and its client.

Between people and the front, HTTP: app.py and api_*.py are the routes, peer.py, door.py and gate.py who may come in,
serve.py listens, api_client.py asks. Between the front and each worker, lines on a private socket: control_wire.py says
what goes over it, control_server.py answers, control_client.py asks.
"""
