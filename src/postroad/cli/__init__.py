"""The command line: one file a command, main.py has the table of them.

Owns: options, what is printed, exit statuses (0 done, 1 refused or not found, 2 usage). Does not own: doing it. What
the commands need of the floors above comes in a ``House`` (house.py) that ``__main__`` fills.
"""
