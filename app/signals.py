"""Signals: Sanic tells of a dozen steps of each request. What nobody listens to is told to nobody."""

from enum import Enum
from itertools import chain
from typing import Any

from sanic.signals import RESERVED_NAMESPACES, SignalRouter


class QuietSignals(SignalRouter):
    """Sanic's signals, given to it as `signal_router=`.

    Its own looks for listeners anew at each step, which ends in an exception where there are none: a quarter of the CPU
    that Sanic takes for an upgrade.
    """

    def __init__(self) -> None:
        super().__init__()
        self._unheard: frozenset[str] = frozenset()

    def finalize(self, do_compile: bool = True, do_optimize: bool = False) -> Any:
        """All who listen are known."""
        heard = {tuple(route.parts[:2]) for route in self.routes}
        steps = chain.from_iterable(RESERVED_NAMESPACES.values())
        self._unheard = frozenset(step for step in steps if tuple(step.split(".")[:2]) not in heard)
        return super().finalize(do_compile, do_optimize)

    async def dispatch(self, event: str | Enum, *, inline: bool = False, **given: Any) -> Any:
        """Tell those who listen, if there are any."""
        if inline and event in self._unheard:
            return None
        return await super().dispatch(event, inline=inline, **given)
