"""How a device names its owner: by mail address or by uid."""

from typing import NewType

from app.addresses import Address, parse_address
from app.errors import BadInput

Uid = NewType("Uid", str)
"""A user's random id, which says nothing about the address."""

OwnerName = Address | Uid

NOBODY = Uid("nobody")
"""No user's uid: what a malformed one stands for where it must not be refused."""

_LONGEST_UID = 64


def parse_uid(text: object) -> Uid:
    """A uid, letters and digits; raises BadInput for others."""
    if not isinstance(text, str) or not text.isascii() or not text.isalnum() or len(text) > _LONGEST_UID:
        raise BadInput("This is not a uid.")
    return Uid(text)


def read_owner(uid: str | None, email: str | None) -> OwnerName | None:
    """The owner that a query names: the uid wins, and an address that is none counts as not given.

    Some clients put an address into the query as it is, so a plus sign arrives as a blank.
    """
    if uid:
        try:
            return parse_uid(uid)
        except BadInput:
            return NOBODY
    try:
        return parse_address((email or "").strip(" ").replace(" ", "+"))
    except BadInput:
        return None
