"""Limits that hold for the whole relay: connections and rates by key.

Owns: counting. Does not own: which limits there are and what their keys are (inbound, outbound), what happens to
somebody who is over one. In the ledger's process: server.py and its books; in all others: client.py. Where there is one
process only: local.py.
"""
