"""Pauses: how long to stay away after a close code (docs/protocol.md, section 4). Pure."""

from collections.abc import Callable

REFUSED = 429
"""No close code: the server refused before the upgrade, since too many asked."""

_PAUSES = {1001: (0.0, 5.0)} | dict.fromkeys((4408, 4409, 4429, REFUSED), (60.0, 90.0)) | {4401: (60.0, 120.0)}
_FINAL = {1002, 1007, 1009, 4403}  # we are wrong, or not wanted
_REPLACED = 4409
_LONGEST = 30.0
_MOST_REPLACED, _WITHIN = 3, 600.0


class Pauses:
    """What is due after each close. `random` is from 0 to 1."""

    def __init__(self, random: Callable[[], float]) -> None:
        self._random = random
        self._tries = 0
        self._replaced: list[float] = []

    def reset(self) -> None:
        """It was in."""
        self._tries = 0

    def after(self, code: int, now: float) -> float | None:
        """Seconds until the next try, None for never; `now` is any clock's."""
        if code == _REPLACED:
            self._replaced = [at for at in self._replaced if now - at < _WITHIN] + [now]
        if code in _FINAL or len(self._replaced) >= _MOST_REPLACED:
            return None
        if code in _PAUSES:
            least, most = _PAUSES[code]
        else:
            least, most = 0.0, min(_LONGEST, 2.0**self._tries)
            self._tries += 1
        return least + self._random() * (most - least)
