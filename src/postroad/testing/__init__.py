"""Fakes that are shipped, for our own tests, for plugins, and for simulations.

Owns: worlds in memory and on loopback: streams, names, facts, records, time, chance. Does not own: tests. Each fake
of a face passes the same contract test as the real thing (tests/contracts/).
"""
