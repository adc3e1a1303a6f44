"""What goes wrong on purpose."""


class PeerbookError(Exception):
    """What the server refused, with its `code`."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


class LinkClosedError(ConnectionError):
    """The connection to the peer ended."""
