"""The generated client, which the official package ships beside the one for sandboxes: the same server, other habits.

It sends no `wait_for_ready` and no bodies to start and stop, pages by cursor, and has filters and sorting.
"""

import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest
from conftest import Server, done, each
from langsmith import AsyncLangsmith, Langsmith
from langsmith._exceptions import APIStatusError, AuthenticationError, NotFoundError

pytestmark = pytest.mark.anyio


@pytest.fixture
async def boxes(flavour: str, server: Server) -> AsyncIterator[Any]:
    kind = Langsmith if flavour == "sync" else AsyncLangsmith
    client = kind(api_key=server.api_key, base_url=server.endpoint.split("/v2/")[0], max_retries=0)
    yield client.sandboxes.boxes
    await done(client.close())


@pytest.fixture
async def three(client, boxes) -> AsyncIterator[list[str]]:
    """The names of three sandboxes, in the order they were made in."""
    prefix = f"three-{uuid.uuid4().hex[:8]}"
    names = [f"{prefix}-{letter}" for letter in "bca"]
    for name in names:
        await done(client.create_sandbox(name=name))
    yield names
    for name in names:
        await done(client.delete_sandbox(name))


async def listed(boxes, names, **query) -> list[str]:
    prefix = names[0].rpartition("-")[0]
    return [box.name async for box in each(boxes.list(name_contains=prefix, **query))]


async def until_ready(boxes, name) -> None:
    while (await done(boxes.get_status(name))).status != "ready":
        pass


async def test_a_create_that_says_nothing_of_waiting_answers_at_once(boxes):
    made = await done(boxes.create())
    assert made.status in ("provisioning", "ready")
    await until_ready(boxes, made.name)
    got = await done(boxes.retrieve(made.id))
    assert (got.id, got.name, got.status) == (made.id, made.name, "ready")
    await done(boxes.delete(made.id))
    with pytest.raises(NotFoundError):
        await done(boxes.retrieve(made.name))


async def test_all_members_of_a_list_come_in_one_page(boxes, three):
    assert sorted(await listed(boxes, three)) == sorted(three)


async def test_a_list_is_paged_by_cursor(boxes, three):
    first = await done(boxes.list(name_contains=three[0].rpartition("-")[0], page_size=2))
    assert (len(first.items), bool(first.next_cursor)) == (2, True)
    assert sorted(await listed(boxes, three, page_size=1)) == sorted(three)


async def test_a_list_is_paged_by_offset_too(boxes, three):
    # This client goes on by the cursor, and repeats what it began with beside it.
    pages = [await listed(boxes, three, limit=1, offset=offset) for offset in range(4)]
    assert sorted(pages[0]) == sorted(three)
    assert pages[1:] == [pages[0][1:], pages[0][2:], []]


async def test_a_list_is_sorted(boxes, three):
    assert await listed(boxes, three, sort_by="name", sort_order="asc") == sorted(three)
    assert await listed(boxes, three, sort_by="name", sort_direction="desc", page_size=1) == sorted(three)[::-1]
    assert await listed(boxes, three, sort_by="created_at", sort_order="asc") == three


async def test_a_list_is_filtered(boxes, three):
    await done(boxes.stop(three[0]))
    assert await listed(boxes, three, status="stopped") == three[:1]
    assert sorted(await listed(boxes, three, status="ready")) == sorted(three[1:])
    assert sorted(await listed(boxes, three, created_by="me")) == sorted(three)
    with pytest.raises(APIStatusError, match="status"):
        await listed(boxes, three, status="asleep")


async def test_labels_are_kept_and_filter(boxes):
    key = f"key-{uuid.uuid4().hex[:8]}"
    made = [await done(boxes.create(labels={key: value})) for value in ("one", "two")]
    for box in made:
        await until_ready(boxes, box.name)

    async def found(*labels: str) -> list[str]:
        return [box.id async for box in each(boxes.list(label=labels, sort_by="created_at", sort_order="asc"))]

    assert await found(key) == [box.id for box in made]
    assert await found(f"{key}=two") == [made[1].id]
    assert await found(key, f"{key}=one") == [made[0].id]
    assert await found(f"{key}=one", f"{key}=two") == []
    for box in made:
        await done(boxes.delete(box.name))


async def test_variables_of_the_sandbox_reach_its_commands(boxes, client):
    made = await done(boxes.create(env_vars={"LAYER": "sandbox"}, run_config={"env_vars": {"LAYER": "config", "B": "b"}}))
    await until_ready(boxes, made.name)
    sandbox = await done(client.get_sandbox(made.name))
    assert (await done(sandbox.run("echo $LAYER $B"))).stdout == "sandbox b\n"
    assert (await done(sandbox.run("echo $LAYER $B", env={"LAYER": "command"}))).stdout == "command b\n"
    await done(boxes.delete(made.name))


async def test_a_sandbox_stops_starts_and_is_renamed(boxes, sandbox):
    await done(boxes.stop(sandbox.name))
    stopped = await done(boxes.retrieve(sandbox.name))
    assert (stopped.status, bool(stopped.stopped_at)) == ("stopped", True)
    await done(boxes.start(sandbox.name))
    await until_ready(boxes, sandbox.name)
    name = f"{sandbox.name}-renamed"
    assert (await done(boxes.update(sandbox.name, body_name=name))).id == sandbox.id
    assert (await done(boxes.update(sandbox.id, body_name=sandbox.name))).name == sandbox.name


async def test_services_that_are_shared_are_listed_and_taken_back(boxes, sandbox):
    for port in (8000, 8001):
        made = await done(boxes.generate_service_url(sandbox.name, port=port, expires_in_seconds=600))
        assert made.token and made.service_url and made.browser_url
    shared = [(item.port, item.access) async for item in each(boxes.list_service_urls(sandbox.name))]
    assert sorted(shared) == [(8000, "token"), (8001, "token")]
    await done(boxes.delete_service_url(sandbox.name, port=8000))
    assert [item.port async for item in each(boxes.list_service_urls(sandbox.name))] == [8001]
    await done(boxes.delete_service_url(sandbox.name))
    assert [item.port async for item in each(boxes.list_service_urls(sandbox.name))] == []


async def test_failures_have_the_classes_of_their_status(boxes, flavour, server, sandbox):
    with pytest.raises(NotFoundError):
        await done(boxes.retrieve("nobody"))
    with pytest.raises(APIStatusError) as failure:
        await done(boxes.create(name=sandbox.name, labels={"another": "sandbox"}))
    assert failure.value.status_code in (409, 501)
    kind = Langsmith if flavour == "sync" else AsyncLangsmith
    stranger = kind(api_key="wrong", base_url=server.endpoint.split("/v2/")[0], max_retries=0)
    with pytest.raises(AuthenticationError):
        await done(stranger.sandboxes.boxes.retrieve("nobody"))
    await done(stranger.close())


async def test_registries_are_not_in_the_server_yet(client):
    with pytest.raises(APIStatusError) as failure:
        await done(client.registries.retrieve("internal"))
    assert failure.value.status_code == 501
