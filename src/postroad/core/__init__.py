"""Floor 1, the vocabulary: words that every other package uses.

Owns: frozen values (addresses, replies, envelopes, outcomes, facts, ids) and the
faces by which the world reaches the code. Does not own: behaviour that needs the
world. Imports nothing of Postroad above this floor.
"""
