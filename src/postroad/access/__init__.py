"""Who a client is: users, and how what they show is checked.

Owns: users and what is kept instead of their passwords. Does not own: the exchanges of SMTP AUTH (smtp), who may do
what (policy), the file that users stand in (records; a face here).
"""
