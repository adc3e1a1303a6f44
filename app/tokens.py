"""Tokens: texts in links that we signed and dated, each for one purpose. One of another purpose is none."""

import hashlib
import time
from collections.abc import Sequence
from typing import Any

from itsdangerous import BadData, URLSafeTimedSerializer

from app.errors import LinkGone

_GRACE = 60  # seconds by which the clocks of two processes may differ


class Tokens:
    """Signs and reads the tokens of one purpose, which are good for `seconds`. Keys come newest first."""

    def __init__(self, secret_keys: Sequence[str], purpose: str, seconds: int) -> None:
        self._seconds = seconds
        # itsdangerous signs with the last key and accepts all.
        self._signer = URLSafeTimedSerializer(
            list(reversed(secret_keys)), salt=purpose, signer_kwargs={"digest_method": hashlib.sha256}
        )

    def sign(self, value: Any) -> str:
        """A token that holds `value`, readable for everybody."""
        return str(self._signer.dumps(value))

    def read(self, token: str) -> Any:
        """The value of a token; raises LinkGone for one that we did not sign for this purpose, or that is too old."""
        try:
            value, signed = self._signer.loads(token, return_timestamp=True)
        except (BadData, UnicodeEncodeError):
            raise LinkGone from None
        if not -_GRACE <= time.time() - signed.timestamp() <= self._seconds + _GRACE:
            raise LinkGone
        return value
