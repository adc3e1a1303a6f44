"""What the README promises to somebody who has just cloned the project, on a machine with nothing but Python and make."""

import re
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.process import ROOT, Program, descendants, ended, free_port, scene_at, server, store_of
from tests.support import Device, Mailbox, Owner, Scene
from tests.test_journey import journey

SERVES_WITHIN = 60.0

pytestmark = pytest.mark.timeout(150)


def list_files(folder: Path, *options: str) -> set[str]:
    """The files of a repository as git lists them: the tracked ones, or those that the options ask for."""
    listing = subprocess.run(
        ["git", "ls-files", "-z", *options], cwd=folder, check=True, capture_output=True, text=True
    )
    return set(filter(None, listing.stdout.split("\0")))


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone of this repository, with the tracked files as they are right now."""
    folder = tmp_path_factory.mktemp("clone") / "peerbook"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder)], check=True)
    for name in list_files(ROOT):
        (folder / name).unlink(missing_ok=True)
        if (ROOT / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    return folder


def readme_command(word: str) -> str:
    """The README's own command line that begins with these words."""
    for block in re.findall(r"^```sh\n(.*?)^```$", (ROOT / "README.md").read_text(), re.M | re.S):
        for line in str(block).splitlines():
            if line.startswith(word):
                return line
    raise AssertionError(f"the README shows no {word!r}")


@asynccontextmanager
async def started(clone: Path, mailbox: Mailbox | None = None) -> AsyncIterator[tuple[Program, Scene]]:
    """The clone, run by the README's command; its mails go to the mailbox if there is one."""
    command = ("sh", "-c", readme_command("make run"))
    settings = {"PORT": str(free_port())} | ({"SMTP_URL": mailbox.url, "MAIL_INTERVAL": "0"} if mailbox else {})
    async with (
        server(settings, command=command, folder=clone, seconds=SERVES_WITHIN) as program,
        scene_at(program.url, mailbox or Mailbox()) as scene,
    ):
        yield program, scene


async def let_in(program: Program, scene: Scene, owner: Owner, name: str) -> Device:
    """A device dials, its owner reads the mail on the server's terminal, opens the link and approves."""
    device = await scene.connect(email=owner.address, name=name)
    waiting = await device.hear()
    assert waiting["code"] == 401
    await program.line(rf"^--- mail to {re.escape(owner.address)}: A device asks")
    await program.line(rf"^  name: {name}$")
    await program.line(rf"^  code: {waiting['pair']}$")
    link = await program.line(r"^http://\S+/link/\S+$")
    await owner.open_link(link[0])
    await owner.approve(device.fp, pair=waiting["pair"])
    assert (await device.hear())["code"] == 200
    assert [peer["name"] for peer in (await device.hear())["peers"]] == [name]
    return device


async def test_a_fresh_clone_serves_by_the_readmes_command_and_ctrl_c_ends_all_of_it(clone: Path) -> None:
    async with started(clone) as (program, scene):
        owner = scene.owner()
        laptop = await let_in(program, scene, owner, "laptop")
        processes = descendants(program.pid)
        store = store_of(program.pid)
        assert store in processes

        program.signal_group(signal.SIGINT)
        assert await laptop.close_code() == 1001
        await program.exit_code()
        for pid in processes:
            await ended(pid)
        assert "Traceback" not in program.output

    # The second start has nothing to install, and the book is still there.
    async with started(clone) as (program, scene):
        again = await scene.connect(laptop.fp, email=owner.address)
        assert (await again.hear())["code"] == 200
        assert "Installing" not in program.output


async def test_two_devices_signal_through_a_fresh_clone(clone: Path, mailbox: Mailbox) -> None:
    async with started(clone, mailbox) as (_, scene):
        await journey(scene)


async def test_the_store_of_a_clone_ends_with_a_server_that_is_killed(clone: Path) -> None:
    async with started(clone) as (program, scene):
        owner = scene.owner()
        laptop = await let_in(program, scene, owner, "laptop")
        store = store_of(program.pid)
        program.signal_group(signal.SIGKILL)
        await ended(store)
    async with started(clone) as (_, scene):
        again = await scene.connect(laptop.fp, email=owner.address)
        assert (await again.hear())["code"] == 200


def test_a_run_leaves_nothing_behind_that_git_would_add(clone: Path) -> None:
    others = list_files(clone, "--others", "--exclude-standard")
    assert others - list_files(ROOT) == set()


def test_the_readme_names_the_command_that_runs_the_tests() -> None:
    assert readme_command("make test")
