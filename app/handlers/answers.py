"""JSON answers to programs."""

from sanic.response import HTTPResponse, raw


def json_answer(body: bytes, status: int = 200) -> HTTPResponse:
    """An answer of encoded JSON."""
    return raw(body, status, content_type="application/json")
