"""Floor 3, the spool: mail we have said 250 to and have not yet handed on.

Owns: the durable queue of one shard. The face is face.py, its promise stands there.
Does not own: when to try again (policy), what a failure means (outbound/trouble.py).
"""
