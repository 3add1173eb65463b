"""How messages travel: wire format, login, sessions, and the three channels."""
