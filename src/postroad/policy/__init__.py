"""Floor 2, decisions as arithmetic: routes, hosts, windows, retries, permission to relay, kinds of refusal.

Owns: the decisions. Does not own: carrying them out (inbound, outbound), the settings they come from
(config; the house turns settings into the values used here). Pure: the time, DNS answers and dice are arguments.
"""
