"""Sandboxes of the control plane: create, get, list, status, wait, update, stop, start, delete."""

import uuid

import pytest
from conftest import done
from langsmith.sandbox import ResourceNameConflictError, ResourceNotFoundError, RunConfig

pytestmark = pytest.mark.anyio


def fresh_name() -> str:
    return f"py-{uuid.uuid4().hex[:12]}"


async def names(client) -> list[str]:
    return [sandbox.name for sandbox in await done(client.list_sandboxes())]


async def test_a_created_sandbox_is_ready_and_has_a_data_plane(sandbox):
    assert sandbox.status == "ready"
    assert sandbox.name
    assert uuid.UUID(sandbox.id)
    assert sandbox.dataplane_url.startswith("http://")
    assert not sandbox.dataplane_url.endswith("/")
    assert sandbox.created_at.endswith("Z")


async def test_get_list_and_status_agree_with_create(client):
    name = fresh_name()
    made = await done(client.create_sandbox(name=name))
    try:
        got = await done(client.get_sandbox(name))
        assert (got.name, got.id, got.dataplane_url) == (name, made.id, made.dataplane_url)
        assert name in await names(client)
        assert (await done(client.get_sandbox_status(name))).status == "ready"
    finally:
        await done(client.delete_sandbox(name))
    assert name not in await names(client)
    with pytest.raises(ResourceNotFoundError):
        await done(client.get_sandbox(name))


async def test_a_sandbox_is_found_by_its_id_too(client, sandbox):
    assert (await done(client.get_sandbox(sandbox.id))).name == sandbox.name


async def test_a_sandbox_that_was_not_waited_for_becomes_ready(client):
    made = await done(client.create_sandbox(wait_for_ready=False))
    try:
        ready = await done(client.wait_for_sandbox(made.name, timeout=30, poll_interval=0.1))
        assert (ready.id, ready.status) == (made.id, "ready")
    finally:
        await done(client.delete_sandbox(made.name))


async def test_the_context_manager_deletes_what_it_made(client, flavour):
    if flavour == "sync":
        with client.sandbox() as sandbox:
            assert sandbox.run("echo hello").stdout == "hello\n"
    else:
        async with await client.sandbox() as sandbox:
            assert (await sandbox.run("echo hello")).stdout == "hello\n"
    assert sandbox.name not in await names(client)


async def test_the_two_clients_convert_into_each_other(client, sandbox, flavour):
    if flavour == "sync":
        other = client.to_async()
        assert (await other.get_sandbox(sandbox.name)).id == sandbox.id
        await other.aclose()
    else:
        other = client.to_sync()
        assert other.get_sandbox(sandbox.name).id == sandbox.id
        other.close()


async def test_lifetimes_have_defaults_and_are_kept_as_asked(client):
    plain = await done(client.create_sandbox())
    asked = await done(client.create_sandbox(idle_ttl_seconds=120, delete_after_stop_seconds=0))
    try:
        assert plain.idle_ttl_seconds == 600
        assert plain.delete_after_stop_seconds == 14 * 24 * 60 * 60
        assert (asked.idle_ttl_seconds, asked.delete_after_stop_seconds) == (120, 0)
    finally:
        for sandbox in (plain, asked):
            await done(client.delete_sandbox(sandbox.name))


async def test_a_rename_keeps_id_and_data_plane(client):
    made = await done(client.create_sandbox())
    name = fresh_name()
    try:
        renamed = await done(client.update_sandbox(made.name, new_name=name))
        assert (renamed.name, renamed.id, renamed.dataplane_url) == (name, made.id, made.dataplane_url)
        with pytest.raises(ResourceNotFoundError):
            await done(client.get_sandbox(made.name))
        assert (await done(renamed.run("echo here"))).stdout == "here\n"
    finally:
        await done(client.delete_sandbox(made.id))


async def test_a_rename_to_a_taken_name_is_a_conflict(client, sandbox):
    other = await done(client.create_sandbox())
    try:
        with pytest.raises(ResourceNameConflictError) as failure:
            await done(client.update_sandbox(other.name, new_name=sandbox.name))
        assert failure.value.resource_type == "sandbox"
        assert (await done(client.get_sandbox(other.name))).id == other.id
    finally:
        await done(client.delete_sandbox(other.name))


async def test_an_update_changes_what_it_names_and_nothing_else(client, sandbox):
    updated = await done(client.update_sandbox(sandbox.name, idle_ttl_seconds=0))
    assert (updated.idle_ttl_seconds, updated.delete_after_stop_seconds) == (0, sandbox.delete_after_stop_seconds)
    updated = await done(client.update_sandbox(sandbox.name, delete_after_stop_seconds=3600))
    assert (updated.idle_ttl_seconds, updated.delete_after_stop_seconds) == (0, 3600)
    # This client sends an empty update, where the other one sends none.
    unchanged = await done(client.update_sandbox(sandbox.name))
    assert (unchanged.id, unchanged.idle_ttl_seconds) == (sandbox.id, 0)


async def test_the_run_configuration_of_a_sandbox_is_the_default_of_its_commands(client):
    config = RunConfig(work_dir="/tmp", env_vars={"FIRST": "1", "SECOND": "2"})
    made = await done(client.create_sandbox(run_config=config))
    try:
        assert made.run_config == config
        say = 'echo "$PWD $FIRST $SECOND"'
        assert (await done(made.run(say))).stdout == "/tmp 1 2\n"
        changed = await done(client.update_sandbox(made.name, run_config={"env_vars": {"SECOND": "two"}}))
        assert changed.run_config == RunConfig(work_dir="/tmp", env_vars={"FIRST": "1", "SECOND": "two"})
        assert (await done(made.run(say))).stdout == "/tmp 1 two\n"
        result = await done(made.run(say, run_config=RunConfig(work_dir="/", env_vars={"FIRST": "one"})))
        assert result.stdout == "/ one two\n"
    finally:
        await done(client.delete_sandbox(made.name))


async def test_a_stopped_sandbox_keeps_its_files_and_starts_again(client, sandbox):
    await done(sandbox.write("/home/user/kept", "kept"))
    await done(sandbox.stop())
    assert sandbox.status == "stopped"
    stopped = await done(client.get_sandbox(sandbox.name))
    assert (stopped.status, stopped.dataplane_url) == ("stopped", sandbox.dataplane_url)
    assert stopped.stopped_at.endswith("Z")
    await done(sandbox.start())
    assert (sandbox.status, sandbox.dataplane_url) == ("ready", stopped.dataplane_url)
    assert (await done(client.get_sandbox(sandbox.name))).stopped_at is None
    assert await done(sandbox.read("/home/user/kept")) == b"kept"


async def test_stop_and_start_by_name(client, sandbox):
    await done(client.stop_sandbox(sandbox.name))
    assert (await done(client.get_sandbox_status(sandbox.name))).status == "stopped"
    started = await done(client.start_sandbox(sandbox.name))
    assert (started.id, started.status) == (sandbox.id, "ready")


@pytest.mark.parametrize(
    "use",
    [
        lambda sandbox: sandbox.run("cat /home/user/kept"),
        lambda sandbox: sandbox.read("/home/user/kept"),
        lambda sandbox: sandbox.write("/home/user/other", "text"),
        lambda sandbox: sandbox.stat("/home/user/kept"),
        lambda sandbox: sandbox.ls("/home/user"),
    ],
    ids=["run", "read", "write", "stat", "ls"],
)
async def test_a_stopped_sandbox_resumes_when_it_is_used(client, sandbox, use):
    await done(sandbox.write("/home/user/kept", "kept"))
    await done(sandbox.stop())
    await done(use(sandbox))
    assert (await done(client.get_sandbox_status(sandbox.name))).status == "ready"
    assert await done(sandbox.read("/home/user/kept")) == b"kept"


async def test_a_sandbox_that_does_not_persist_starts_afresh(client):
    made = await done(client.create_sandbox(persistent=False))
    try:
        await done(made.write("/home/user/gone", "gone"))
        await done(made.stop())
        await done(made.start())
        with pytest.raises(ResourceNotFoundError):
            await done(made.read("/home/user/gone"))
    finally:
        await done(client.delete_sandbox(made.name))
