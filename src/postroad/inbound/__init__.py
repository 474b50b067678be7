"""Floor 4, inbound: from the wire to the spool.

Owns: sessions of clients and the transactions in them. Does not own: what is legal
(smtp), who may send where (policy/relay.py), what is kept (spool). Meets outbound in the
spool and nowhere else.
"""
