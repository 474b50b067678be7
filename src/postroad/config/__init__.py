"""The configuration: every setting with its default, bounds and meaning, and how files become settings.

Owns: the names a user types (postroad.toml), their values, and saying what is
wrong with them. Does not own: applying any of them. Start with model.py for what
can be set and load.py for how it is read. Only load.py reads files.
"""
