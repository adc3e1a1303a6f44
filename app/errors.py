"""Everything that goes wrong on purpose: a code and a sentence that anybody may read."""

from typing import Any, ClassVar


class PeerbookError(Exception):
    """A refusal: `code` is an HTTP status (RFC 9110) or a WebSocket error code of the same number."""

    code: ClassVar[int] = 500
    text: str = "Something went wrong on our side."

    def __init__(self, text: str | None = None) -> None:
        super().__init__(text or self.text)
        self.text = text or self.text

    def members(self) -> dict[str, Any]:
        """The members of the JSON object that tells a program about it."""
        return {"code": self.code, "text": self.text}


class BadInput(PeerbookError):
    """Something that cannot be read: a body, a frame, a fingerprint, an address."""

    code = 400
    text = "This cannot be read."


class NotIn(PeerbookError):
    """The peer is not verified, so it can neither see nor reach anybody."""

    code = 401
    text = "Not in a book: the owner has to approve this device first."


class NotProved(PeerbookError):
    """A proof that does not hold; whatever is wrong with it, it says the same."""

    code = 401
    text = "This proves nothing."


class ForgedDescription(PeerbookError):
    """An offer or answer that names another certificate than the sender's, or hides which one it names."""

    code = 403
    text = "The certificate in this description is not yours."


class UnknownTarget(PeerbookError):
    """No verified peer of this book has that fingerprint; somebody else's peer looks the same."""

    code = 404
    text = "No such peer in your book."


class NotFound(PeerbookError):
    """There is no such page, device or request."""

    code = 404
    text = "There is nothing here."


class NameTaken(PeerbookError):
    """Another device of the book has that name."""

    code = 409
    text = "Another of your devices has this name."


class BookFull(PeerbookError):
    """The book holds as many devices as it may."""

    code = 409
    text = "Your book is full: remove a device first."


class AlreadyInBook(PeerbookError):
    """A fingerprint that is to be entered ahead stands in the book already."""

    code = 409
    text = "This fingerprint is in your book already."


class WeakerProof(PeerbookError):
    """A peer would prove itself by less than it does now."""

    code = 409
    text = "Your next proof can't be weaker than the one you have."


class Offline(PeerbookError):
    """The target is in the book but not connected."""

    code = 410
    text = "This peer is offline."

    def __init__(self, last_seen: int) -> None:
        super().__init__()
        self.last_seen = last_seen

    def members(self) -> dict[str, Any]:
        """Code and text, and when the target was last seen (Unix seconds)."""
        return super().members() | {"last_seen": self.last_seen}


class LinkGone(PeerbookError):
    """A link that was used, is too old, or never was one: they all look the same."""

    code = 410
    text = "This link was used already, or is too old."
    what: ClassVar[str] = "link"


class CodeGone(LinkGone):
    """A code that was used or tried too often, is too old, or was asked for in another browser."""

    text = "This code was used or tried too often, is too old, or was not asked for in this browser."
    what = "code"


class Unreachable(PeerbookError):
    """The store or the target's process does not answer, or the target reads too slowly."""

    code = 503
    text = "Out of reach right now, try again in a moment."


class TooMany(PeerbookError):
    """Somebody does something too often. `retry_after`: seconds until it is worth another try, 0 where that is not said."""

    code = 429
    text = "Too many of these, try again later."

    def __init__(self, retry_after: int = 0) -> None:
        super().__init__()
        self.retry_after = retry_after


class NoRoom(PeerbookError):
    """There are as many sockets as there may be, or as many that wait. `retry_after`: seconds until another try."""

    code = 503
    text = "No room for another socket right now, try again later."
    retry_after: ClassVar[int] = 30


class CrossSite(PeerbookError):
    """A form that was posted by another site's page."""

    code = 403
    text = "This form was not sent by our own page."


class ForeignOrigin(PeerbookError):
    """A page of an origin that is not among the allowed ones asks what programs ask."""

    code = 403
    text = "Pages of this origin may not use this server."


class WrongForm(PeerbookError):
    """A form with a field that does not fit."""

    code = 422
    text = "This does not fit."


class WrongCode(WrongForm):
    """A code that does not fit, or none that may fit any more today."""

    text = "This code does not fit: look again, or open the link in the mail."
