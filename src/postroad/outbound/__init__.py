"""Floor 4, outbound: from the spool to the wire, or to a Maildir.

Owns: scheduling, destinations and their connections, attempts, reports. Does not own:
routes, retry times, host order (policy), what is kept (spool). Meets inbound in the spool and
nowhere else.
"""
