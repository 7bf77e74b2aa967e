"""The exception classes that the official client makes of our status codes and bodies."""

import pytest
from conftest import client_of, close, done
from langsmith.sandbox import (
    DataplaneNotConfiguredError,
    ResourceCreationError,
    ResourceNotFoundError,
    ResourceTimeoutError,
    SandboxAuthenticationError,
    SandboxClientError,
    SandboxConnectionError,
    SandboxOperationError,
    ValidationError,
)

pytestmark = pytest.mark.anyio


@pytest.fixture
async def stranger(flavour, server):
    client = client_of(flavour, server, api_key="wrong", max_retries=0)
    yield client
    await close(client)


async def test_a_wrong_key_is_an_authentication_error(stranger):
    for call in (stranger.list_sandboxes, stranger.create_sandbox, lambda: stranger.get_sandbox("nobody")):
        with pytest.raises(SandboxAuthenticationError):
            await done(call())


async def test_the_data_plane_asks_for_the_key_too(stranger, sandbox):
    foreign = type(sandbox).from_dict({"name": sandbox.name, "dataplane_url": sandbox.dataplane_url}, stranger)
    with pytest.raises(SandboxClientError, match="(?i)key"):
        await done(foreign.read("/etc/hostname"))
    with pytest.raises(SandboxClientError):
        await done(foreign.run("true"))


@pytest.mark.parametrize(
    "call",
    [
        lambda client: client.get_sandbox("nobody"),
        lambda client: client.delete_sandbox("nobody"),
        lambda client: client.get_sandbox_status("nobody"),
        lambda client: client.get_sandbox("no/body"),
        lambda client: client.update_sandbox("nobody", new_name="somebody"),
        lambda client: client.start_sandbox("nobody"),
        lambda client: client.stop_sandbox("nobody"),
    ],
    ids=["get", "delete", "status", "get with a slash", "update", "start", "stop"],
)
async def test_an_unknown_sandbox_is_not_found_as_a_sandbox(client, call):
    with pytest.raises(ResourceNotFoundError) as failure:
        await done(call(client))
    assert failure.value.resource_type == "sandbox"


async def test_a_deleted_sandbox_is_gone_from_the_data_plane(client):
    sandbox = await done(client.create_sandbox())
    await done(client.delete_sandbox(sandbox.name))
    with pytest.raises(ResourceNotFoundError):
        await done(sandbox.read("/etc/hostname"))
    with pytest.raises(SandboxConnectionError):
        await done(sandbox.run("true"))


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"name": "Not A Valid Name!"}, "name"),
        ({"run_config": {"work_dir": "relative"}}, "run_config"),
        ({"run_config": {"env_vars": {"A": 1}}}, "run_config"),
        ({"vcpus": -1}, "vcpus"),
        ({"mem_bytes": -1}, "mem_bytes"),
    ],
)
async def test_a_bad_create_is_a_validation_error_that_names_the_field(client, options, field):
    with pytest.raises(ValidationError, match=field) as failure:
        await done(client.create_sandbox(**options))
    assert failure.value.field == field


async def test_a_taken_name_is_refused(client, sandbox):
    # This client has no class of its own for that.
    with pytest.raises(SandboxClientError, match=sandbox.name):
        await done(client.create_sandbox(name=sandbox.name, idle_ttl_seconds=120))
    assert (await done(client.get_sandbox(sandbox.name))).id == sandbox.id


async def test_a_stopped_sandbox_is_not_waited_for_forever(client, sandbox):
    await done(client.stop_sandbox(sandbox.name))
    with pytest.raises(ResourceTimeoutError) as failure:
        await done(client.wait_for_sandbox(sandbox.name, timeout=0))
    assert (failure.value.resource_type, failure.value.last_status) == ("sandbox", "stopped")


async def test_what_is_stopped_is_not_stopped_again(client, sandbox):
    await done(client.stop_sandbox(sandbox.name))
    with pytest.raises(SandboxClientError, match="stopped"):
        await done(client.stop_sandbox(sandbox.name))


async def test_what_runs_is_not_started(client, sandbox):
    with pytest.raises(SandboxClientError, match="ready"):
        await done(client.start_sandbox(sandbox.name))


async def test_a_directory_that_is_not_there_is_an_error_of_the_command(sandbox, transport):
    with pytest.raises(SandboxOperationError, match="/nowhere") as failure:
        await done(sandbox.run("true", cwd="/nowhere"))
    assert failure.value.error_type == "CommandError"


async def test_a_user_that_is_not_there_is_an_error_of_the_command(sandbox, transport):
    with pytest.raises(SandboxOperationError, match="nobody-of-that-name"):
        await done(sandbox.run("true", run_config={"user": "nobody-of-that-name"}))


async def test_without_a_data_plane_nothing_is_asked(client, sandbox):
    bare = type(sandbox).from_dict({"name": sandbox.name}, client)
    with pytest.raises(DataplaneNotConfiguredError):
        await done(bare.run("true"))


@pytest.mark.parametrize(
    "call",
    [
        lambda client: client.list_snapshots(),
        lambda client: client.get_snapshot("python:3.12"),
        lambda client: client.create_snapshot("python", "python:3.12", 2**30),
        lambda client: client.create_sandbox(snapshot_name="python"),
        lambda client: client.create_sandbox(access_delegation={"mode": "INHERIT"}),
    ],
    ids=["list snapshots", "get a snapshot", "make a snapshot", "from a snapshot", "access delegation"],
)
async def test_what_is_not_supported_is_said_in_words(client, call):
    with pytest.raises((SandboxClientError, ResourceCreationError), match="(?i)does not support|not supported"):
        await done(call(client))
