"""The demo: `make demo` starts a server, a Python peer, and a page that walks a newcomer through a first connection."""
