"""Proving: a connection shows that it is the device whose fingerprint it names, or takes another fingerprint."""

from app.books import Books
from app.claims import CERTIFICATE
from app.connections import Connection, Stage
from app.errors import BadInput, NotIn, NotProved, PeerbookError
from app.identity import CertificateProof, check_certificate, check_proof
from app.messages import Prove, Rekey
from app.notices import Notices
from app.presence import Presence

MOST_FAILURES = 5
"""After so many proofs that did not hold, a connection ends."""


class Proving:
    """Serves the messages `prove` and `rekey`. `origin` is the server's, which a certificate's key signs."""

    def __init__(self, books: Books, presence: Presence, notices: Notices, origin: str) -> None:
        self._books = books
        self._presence = presence
        self._notices = notices
        self._origin = origin

    async def prove(self, connection: Connection, command: Prove) -> None:
        """Look at a proof, and do what follows from it. Raises NotProved, and counts that."""
        if not connection.named and connection.stage is not Stage.WAITING and CERTIFICATE not in connection.shown:
            # Its fingerprint was enough to be in; only its owner's own book may learn that it can do more.
            raise BadInput("Name your owner when you connect, to prove yourself.")
        try:
            wanted = connection.due or connection.claim
            claim = check_proof(command.proof, wanted, self._origin, connection.fp, connection.nonce)
        except NotProved:
            connection.failures += 1
            raise
        if isinstance(command.proof, CertificateProof):
            connection.certificate = command.proof.certificate
        await self._presence.proved(connection, claim)

    async def rekey(self, connection: Connection, command: Rekey) -> None:
        """Give the peer its new fingerprint. Its connection must end then: it is somebody else now.

        Raises NotIn, NotProved, AlreadyInBook or WeakerProof, and then has changed nothing.
        """
        book, peer = connection.book, connection.peer
        if book is None or peer is None:
            raise NotIn
        if peer.claim not in connection.shown:
            raise NotProved
        if command.proof:
            check_certificate(command.proof, self._origin, command.fp, connection.nonce)
        connection.rekeying = True
        try:
            await self._books.rekey(
                book.uid, connection.fp, command.fp, command.claim, proved=command.proof is not None
            )
        except PeerbookError:
            connection.rekeying = False
            raise
        self._notices.proof_changed(book, peer.name)
