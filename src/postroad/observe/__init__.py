"""How facts become visible: log lines, stored facts and the stories read back from them, metrics, words for people.

Owns: taking facts from whoever emits them, in batches, and handing them to subscribers. Does not own: what a fact
holds (core/facts.py). All that is shown comes from the same values, so no two views can disagree.
"""
