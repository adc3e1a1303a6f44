"""Plays peers against any peerbook and says which promises of its protocol hold.

    python -m conformance --server https://book.example.org --email you@example.org

The owner's part is asked for on the terminal, or done by itself with `--maildir`, where the owner's mails arrive.
"""

import argparse
import asyncio
import json
import sys
from pathlib import Path

from conformance.owners import Mailbox, Person
from conformance.player import BrokenPromiseError, Owner, Player

TRANSCRIPTS = Path(__file__).parent / "transcripts"
_PATIENCE = 600.0  # for a person


async def main() -> int:
    """Play all transcripts; the exit code is the number of promises that don't hold, 100 at the most."""
    parser = argparse.ArgumentParser(
        prog="conformance", description="Which promises of its protocol does a server keep?"
    )
    parser.add_argument("--server", required=True, help="the server's address")
    parser.add_argument("--origin", default="", help="its BASE_URL, where it is reached by another address")
    parser.add_argument("--email", required=True, help="the mail address of an owner whose book may be used")
    parser.add_argument("--maildir", type=Path, help="a Maildir where that owner's mails arrive")
    parser.add_argument("only", nargs="*", help="transcripts by name, all of them by default")
    given = parser.parse_args()
    person: Owner = Person(print)
    owner = Mailbox(given.server, given.email, given.maildir) if given.maildir else person
    broken = 0
    for path in sorted(TRANSCRIPTS.glob("*.json")):
        if given.only and path.stem not in given.only:
            continue
        transcript = json.loads(path.read_text())
        seconds = 40.0 if given.maildir else _PATIENCE
        player = Player(given.server, given.email, owner, origin=given.origin, seconds=seconds, say=print)
        try:
            await player.play(transcript)
            print(f"holds   {path.stem}: {transcript['promise']}")
        except (BrokenPromiseError, RuntimeError) as error:
            broken += 1
            print(f"BROKEN  {path.stem}: {transcript['promise']}\n        {error}")
    print(f"{'All promises hold.' if not broken else f'{broken} promises do not hold.'}")
    return min(broken, 100)


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
