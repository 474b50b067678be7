"""Floor 2, the protocol: SMTP, ESMTP and LMTP as sans-I/O engines. Knows nothing of sockets, spools or plugins."""
