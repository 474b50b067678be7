"""Shared small tables: users, bans, suspensions, overrides, policy caches, by name and key.

Owns: the file that holds them. Does not own: what a value means (whoever has the table), messages (spool), limits
(ledger).
"""
