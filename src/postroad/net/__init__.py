"""Sockets, TLS and names: how octets and addresses reach the relay.

Owns: streams, listening, connecting, TLS contexts, the resolver. Does not own: what the
octets mean (smtp) or who may connect (inbound, pipeline). Knows nothing of messages.
"""
