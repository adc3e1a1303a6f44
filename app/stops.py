"""Stops: addresses to which no mail goes any more. The link that stops mails and allows them again is in every mail."""

from collections.abc import Sequence
from dataclasses import dataclass

from app.addresses import Address
from app.books import Books
from app.digests import digest
from app.store import Store
from app.tokens import Tokens

_SECONDS = 365 * 86400
"""How long a link is good, and how long a stop lasts after the last mail that it held back."""


@dataclass(frozen=True, slots=True)
class Stop:
    """What a link is about. `masked` is empty where no user has the address now."""

    masked: str
    stopped: bool


class Stops:
    """Makes and follows the links. Addresses stand neither in them nor in the store, only their digests."""

    def __init__(self, store: Store, books: Books, *, secret_keys: Sequence[str], base_url: str) -> None:
        self._store = store
        self._books = books
        self._base_url = base_url
        self._tokens = Tokens(secret_keys, "peerbook stop", _SECONDS)

    def url(self, uid: str, to: Address) -> str:
        """The address of a page that stops mails to `to`, or allows them again; good for a year."""
        return f"{self._base_url}/stop/{self._tokens.sign([uid, _digest(to)])}"

    async def hold_back(self, to: Address) -> bool:
        """Whether a mail to that address must not go out; if so, the stop lasts another year."""
        return await self._store.prolong_stop(_digest(to), _SECONDS)

    async def peek(self, token: str) -> Stop:
        """What the link is about; nothing changes. Raises LinkGone."""
        uid, address = self._tokens.read(token)
        book = await self._books.read(uid)
        owner = Address(book.owner.address) if book else None
        masked = owner.masked if owner and _digest(owner) == address else ""
        return Stop(masked, await self._store.is_stopped(address))

    async def stop(self, token: str) -> None:
        """No mail goes to the link's address from now on. Raises LinkGone."""
        _, address = self._tokens.read(token)
        await self._store.keep_stop(address, _SECONDS)

    async def allow(self, token: str) -> None:
        """Mails go to the link's address again. Raises LinkGone."""
        _, address = self._tokens.read(token)
        await self._store.end_stop(address)


def _digest(address: Address) -> str:
    # Not a keyed one: a stop must outlive the keys.
    return digest(f"stop {address.key}")
