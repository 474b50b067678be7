"""Floor 2, what is inside a message: octets in, octets out.

Owns: header fields, our trace field, the fix-ups of submission, delivery reports. Does not own: the
dialogue that carries a message (smtp), where it is kept (spool). Bodies are never re-encoded. Pure:
the time, ids and tokens are arguments.
"""
