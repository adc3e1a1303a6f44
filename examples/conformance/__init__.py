"""The conformance kit: which promises of docs/protocol.md a server keeps. Start with `python -m conformance`."""
