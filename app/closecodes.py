"""Close codes: why the server ends a WebSocket. What a client should do about each is in docs/protocol.md, section 4."""

from enum import IntEnum


class CloseCode(IntEnum):
    """Codes of RFC 6455, section 7.4.1, and our own from the range that section 7.4.2 leaves to applications."""

    GOING_AWAY = 1001
    PROTOCOL_ERROR = 1002
    INVALID_DATA = 1007
    MESSAGE_TOO_BIG = 1009
    INTERNAL_ERROR = 1011
    TRY_AGAIN_LATER = 1013
    UNANSWERED = 4401
    REJECTED = 4403
    NOT_PROVED = 4408
    REPLACED = 4409
    FLOODING = 4429
