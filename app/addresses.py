"""A mail address: one of them, matched whole, compared in lower case."""

import re
from dataclasses import dataclass

from app.errors import BadInput

# HTML's definition of a valid address, so that the browser's form and we agree
# (https://html.spec.whatwg.org/multipage/input.html#valid-e-mail-address),
# less two dots in a row or at an end, which mail servers refuse (RFC 5321, section 4.1.2), and less `=?`, by which an
# encoded word begins: a mail's header would decode it, commas and line ends too (RFC 2047, section 5, forbids it here).
_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_ADDRESS = re.compile(rf"(?!.*=\?){_ATOM}(?:\.{_ATOM})*@{_LABEL}(?:\.{_LABEL})*")
_LONGEST = 254


@dataclass(frozen=True, slots=True)
class Address:
    """One mail address: mailed as it was typed first, compared by its `key`."""

    typed: str

    @property
    def key(self) -> str:
        """The form that tells two addresses apart."""
        return self.typed.lower()

    @property
    def domain(self) -> str:
        """What follows the @, in lower case."""
        return self.key.rpartition("@")[2]

    @property
    def masked(self) -> str:
        """Enough of it for its owner to recognise, too little for others to use: `a…@example.org`."""
        local, _, domain = self.typed.rpartition("@")
        return f"{local[0]}…@{domain}"


def parse_address(text: object) -> Address:
    """The address that `text` spells; raises BadInput for anything but exactly one."""
    if not isinstance(text, str) or len(text) > _LONGEST or not _ADDRESS.fullmatch(text):
        raise BadInput("This is not a mail address.")
    return Address(text)
