"""Notices: short mails to an owner about what matters for the safety of the book."""

from app.addresses import Address
from app.book import Book
from app.mailer import Mailer
from app.sessions import Sessions


class Notices:
    """Tells owners by mail. Each mail has a link that signs out everywhere."""

    def __init__(self, mailer: Mailer, sessions: Sessions) -> None:
        self._mailer = mailer
        self._sessions = sessions

    def device_approved(self, book: Book, name: str) -> None:
        """A device may enter the book from now on."""
        self._post(book, "approved", name=name)

    def proof_changed(self, book: Book, name: str) -> None:
        """A device of the book proves itself in another way from now on."""
        self._post(book, "proof", name=name)

    def new_browser(self, book: Book, detail: str) -> None:
        """Somebody logged in with a browser that was never used for this book."""
        self._post(book, "browser", detail=detail)

    def _post(self, book: Book, template: str, **members: str) -> None:
        self._mailer.post(
            Address(book.owner.address), template, members | {"sign_out": self._sessions.sign_out_url(book)}
        )
