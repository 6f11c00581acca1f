"""Where instances, histories and messages are kept: one module a database."""
