"""Notices: short mails to an owner about what matters for the safety of the book."""

from app.addresses import Address
from app.background import Background
from app.book import Book
from app.mailer import Mailer
from app.sessions import Sessions
from app.stamps import Stamps


class Notices:
    """Tells owners by mail, beside everything else. Each mail has a link that signs out everywhere."""

    def __init__(self, mailer: Mailer, stamps: Stamps, sessions: Sessions, background: Background) -> None:
        self._mailer = mailer
        self._stamps = stamps
        self._sessions = sessions
        self._background = background

    def device_approved(self, book: Book, name: str) -> None:
        """A device may enter the book from now on."""
        self._tell(book, "approved", name=name)

    def proof_changed(self, book: Book, name: str) -> None:
        """A device of the book proves itself in another way from now on."""
        self._tell(book, "proof", name=name)

    def new_browser(self, book: Book, detail: str) -> None:
        """Somebody logged in with a browser that was never used for this book."""
        self._tell(book, "browser", detail=detail)

    def _tell(self, book: Book, template: str, **members: str) -> None:
        self._background.start(self._mail(book, template, members))

    async def _mail(self, book: Book, template: str, members: dict[str, str]) -> None:
        stamp = await self._stamps.take(book.uid, Address(book.owner.address))
        if stamp:
            self._mailer.post(stamp, template, members | {"sign_out": self._sessions.sign_out_url(book)})
