"""Invites: a code that the owner makes and a new device brings; the first one that does is in. Pure."""

import hashlib
import secrets

SECONDS = 3600
"""How long an invite is good."""

MOST = 20
"""How many invites of one book are open at once."""

_DIGITS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # Crockford's base32 (https://www.crockford.com/base32.html)
_LENGTH = 10
_LOOKALIKES = str.maketrans({"O": "0", "I": "1", "L": "1", "-": "", " ": ""})


def new_invite() -> str:
    """A fresh code: 50 random bits, in two groups that a person can type."""
    code = "".join(secrets.choice(_DIGITS) for _ in range(_LENGTH))
    return f"{code[:5]}-{code[5:]}"


def invite_digest(text: object) -> str | None:
    """What the store knows of a code, however it was typed; None for what is none."""
    if not isinstance(text, str):
        return None
    code = text.upper().translate(_LOOKALIKES)
    if len(code) != _LENGTH or not set(code) <= set(_DIGITS):
        return None
    return hashlib.sha256(f"invite {code}".encode()).hexdigest()
