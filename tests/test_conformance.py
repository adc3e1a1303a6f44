"""The transcripts of the conformance kit are the server's own tests too; and the kit runs against a server by itself."""

import copy
import json
import mailbox
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from conformance.player import BrokenPromiseError, Player

from tests.process import ROOT, run, scene_at, server
from tests.support import Mailbox, Owner, Scene, open_mailbox

TRANSCRIPTS = sorted((ROOT / "examples/conformance/transcripts").glob("*.json"))


class Page:
    """The owner, at the page."""

    def __init__(self, owner: Owner) -> None:
        self._owner = owner

    async def act(self, what: str, fp: str, **fields: str) -> None:
        await self._owner.do(f"/peers/{fp}/{what}", **fields)


async def play(scene: Scene, transcript: dict[str, Any], seconds: float = 10) -> None:
    scene.tell_absences_after(0)
    owner = scene.owner()
    await owner.log_in()
    await Player(scene.url, owner.address, Page(owner), seconds=seconds, say=print).play(transcript)


def read(path: Path) -> dict[str, Any]:
    transcript: dict[str, Any] = json.loads(path.read_text())
    return transcript


@pytest.mark.parametrize("path", TRANSCRIPTS, ids=lambda path: path.stem)
async def test_the_server_keeps_its_promise(scene: Scene, path: Path) -> None:
    await play(scene, read(path))


def test_each_transcript_names_its_promise_and_where_it_stands() -> None:
    sections = {
        line[3:].split(".")[0] for line in (ROOT / "docs/protocol.md").read_text().splitlines() if line[:3] == "## "
    }
    assert len(TRANSCRIPTS) >= 15
    for path in TRANSCRIPTS:
        transcript = read(path)
        assert transcript["promise"][0].isupper()
        assert str(transcript["section"]) in sections


async def test_a_transcript_that_tells_another_story_is_found_out(scene: Scene) -> None:
    asking = read(TRANSCRIPTS[0])
    assert asking["steps"][1]["message"]["code"] == 401
    wrong: list[tuple[str, Any, str]] = [
        ("code", 200, "code is 401"),
        ("pair", "<integer>", "pair is"),
        ("more", "<any>", "lacks"),
        ("nonce", None, "as well"),
    ]
    for member, value, said in wrong:
        changed = copy.deepcopy(asking)
        if value is None:
            del changed["steps"][1]["message"][member]
        else:
            changed["steps"][1]["message"][member] = value
        with pytest.raises(BrokenPromiseError, match=said):
            await play(scene, changed)
    silent = copy.deepcopy(asking)
    silent["steps"].append(silent["steps"][1])
    with pytest.raises(BrokenPromiseError, match="nothing came"):
        await play(scene, silent, seconds=0.5)


class Postman(Mailbox):
    """Puts every mail into a Maildir."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._maildir = mailbox.Maildir(folder)

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        self._maildir.add(envelope.content)
        return "250 OK"


async def test_the_kit_runs_by_itself_with_the_owners_mailbox(tmp_path: Path) -> None:
    async with open_mailbox(Postman(tmp_path / "mails")) as post:
        settings = {"SMTP_URL": post.url, "DATA_DIR": str(tmp_path / "data"), "PORT": "0"}
        async with server(settings) as running, scene_at(running.url, post):
            ended = await run(
                *(sys.executable, "-m", "conformance", "--server", running.url, "--origin", running.url),
                *("--email", "owner@example.org", "--maildir", str(tmp_path / "mails"), "01-asking", "12-certificate"),
                environment=dict(os.environ) | {"PYTHONPATH": f"{ROOT}/examples:{ROOT}/examples/python"},
                seconds=40,
            )
    assert ended.code == 0, ended.output + ended.errors
    assert [line.split(":")[0].split() for line in ended.output.splitlines()[:2]] == [
        ["holds", "01-asking"],
        ["holds", "12-certificate"],
    ]
    assert ended.output.splitlines()[2] == "All promises hold."
