"""The official Python client on our server, exactly as its users would write it: only endpoint and key are ours.

The synchronous and the asynchronous client have the same calls, so each test is written once and runs with both:
`await done(client.get_sandbox(name))` awaits what has to be awaited.
"""

import inspect
import json
import os
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from langsmith.sandbox import AsyncSandboxClient, SandboxClient

# A client that can't connect gives up after some seconds by itself; a server that hangs shall fail a test, not stop it.
PROGRAM_END_SECONDS = 20

# What the server is to do and does not do yet. It fails as soon as it does.
later = pytest.mark.xfail(strict=True, reason="not in the server yet")


@dataclass(frozen=True)
class Server:
    endpoint: str
    api_key: str


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """One `sandwired --ephemeral` for all tests. It ends when its standard input does, so at the latest with us."""
    command = [os.environ["SANDWIRED"], "serve", "--ephemeral"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            event = json.loads(process.stdout.readline())
            assert event["event"] == "ready", event
            yield Server(event["endpoint"], event["api_key"])
        finally:
            process.stdin.close()
            try:
                assert process.wait(PROGRAM_END_SECONDS) == 0
            finally:
                process.kill()


@pytest.fixture
def local_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names below localhost are this machine, as browsers, curl and most resolvers have it; the C library alone has not."""
    resolve = socket.getaddrinfo

    def local(host: Any, *rest: Any, **more: Any) -> Any:
        below = str(host.decode() if isinstance(host, bytes) else host).endswith(".localhost")
        return resolve("127.0.0.1" if below else host, *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", local)


@pytest.fixture(params=["sync", "async"])
def flavour(request: pytest.FixtureRequest) -> str:
    return request.param


def client_of(flavour: str, server: Server, **options: Any) -> Any:
    kind = SandboxClient if flavour == "sync" else AsyncSandboxClient
    return kind(**{"api_endpoint": server.endpoint, "api_key": server.api_key} | options)


async def close(client: Any) -> None:
    await done(client.aclose() if hasattr(client, "aclose") else client.close())


@pytest.fixture
async def client(flavour: str, server: Server) -> AsyncIterator[Any]:
    client = client_of(flavour, server)
    yield client
    await close(client)


@pytest.fixture
async def sandbox(client: Any) -> AsyncIterator[Any]:
    sandbox = await done(client.create_sandbox())
    yield sandbox
    await done(client.delete_sandbox(sandbox.name))


@pytest.fixture(params=["websocket", "sse"])
def transport(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """How commands are run. The client asks for its features anew with each call."""
    if request.param == "sse":
        monkeypatch.setenv("LANGSMITH_EXPERIMENTAL_FEATURES", "sandbox_sse_exec")
    return request.param


async def done(outcome: Any) -> Any:
    """The outcome of a call, of either client."""
    return await outcome if inspect.isawaitable(outcome) else outcome


async def each(handle: Any) -> AsyncIterator[Any]:
    """The chunks of a command handle, of either client."""
    if hasattr(handle, "__aiter__"):
        async for chunk in handle:
            yield chunk
    else:
        for chunk in handle:
            yield chunk
