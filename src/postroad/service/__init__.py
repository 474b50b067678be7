"""Floor 6, service: the running relay, put together from everything below.

Owns: the life of the process (worker.py), opening the spool's shard (shards.py), what settings mean to inbound and
outbound (build_inbound.py, build_outbound.py, limits.py), the real clock, dice and threads. Does not own: any decision
about mail.
"""
