"""Sim: the whole relay inside a deterministic world that tries to break "250 means kept".

Owns: a world from a seed (time, network, names, disks, clients, next hops), crashes and faults, a judge that trusts
nothing of the product, replay, shrinking, mutations. Does not own: the relay; production code runs unchanged, with
other hands plugged in (house.py). Run it: ``python -m postroad.testing.sim --help``. docs/testing.md has the overview.
"""
