"""Files: write, read, stat, parts of files, searches by name and content."""

import pytest
from conftest import done
from langsmith.sandbox import ResourceNotFoundError, SandboxOperationError

pytestmark = pytest.mark.anyio

BYTES = bytes(i * 7 % 256 for i in range(100_000))


async def test_text_that_was_written_is_read_back_also_by_commands(sandbox):
    await done(sandbox.write("/tmp/note.txt", "zażółć\n"))
    assert (await done(sandbox.read("/tmp/note.txt"))).decode() == "zażółć\n"
    assert (await done(sandbox.run("cat /tmp/note.txt"))).stdout == "zażółć\n"


async def test_every_byte_value_survives(sandbox):
    await done(sandbox.write("/tmp/bytes", BYTES))
    assert await done(sandbox.read("/tmp/bytes")) == BYTES


async def test_many_megabytes_survive(sandbox):
    content = BYTES * 300
    await done(sandbox.write("/home/user/large", content))
    assert await done(sandbox.read("/home/user/large")) == content


async def test_an_empty_file_is_empty(sandbox):
    await done(sandbox.write("/tmp/empty", ""))
    assert await done(sandbox.read("/tmp/empty")) == b""


async def test_missing_directories_are_made_and_files_are_replaced(sandbox):
    await done(sandbox.write("/home/user/a/b/c.txt", "first, and longer"))
    await done(sandbox.write("/home/user/a/b/c.txt", "second"))
    assert await done(sandbox.read("/home/user/a/b/c.txt")) == b"second"


async def test_relative_paths_are_below_the_home_of_the_user(sandbox):
    await done(sandbox.write("relative.txt", "here"))
    assert await done(sandbox.read("/home/user/relative.txt")) == b"here"
    assert await done(sandbox.read("relative.txt")) == b"here"


@pytest.mark.parametrize("name", ["a b+c&d=e%20f?#.txt", "zażółć 日本.txt", "line\nbreak", "-n", "*"])
async def test_names_of_all_kinds_reach_the_file_they_name(sandbox, name):
    await done(sandbox.write(f"/tmp/names/{name}", name))
    assert (await done(sandbox.read(f"/tmp/names/{name}"))).decode() == name
    assert (await done(sandbox.run("cd /tmp/names; printf %s *"))).stdout == name


async def test_stat_has_size_and_validators(sandbox):
    await done(sandbox.write("/tmp/bytes", BYTES))
    stat = await done(sandbox.stat("/tmp/bytes"))
    assert stat.size_bytes == len(BYTES)
    assert stat.etag.startswith('"')
    assert stat.last_modified.endswith("GMT")
    assert stat.content_type == "application/octet-stream"
    assert (await done(sandbox.stat("/tmp/bytes"))).etag == stat.etag
    await done(sandbox.write("/tmp/bytes", BYTES))
    assert (await done(sandbox.stat("/tmp/bytes"))).etag != stat.etag


@pytest.mark.parametrize(
    ("wanted", "first", "last"),
    [
        ({"start": 0, "end": 0}, 0, 1),
        ({"start": 10, "end": 19}, 10, 20),
        ({"start": 99_990}, 99_990, 100_000),
        ({"start": 99_990, "end": 200_000}, 99_990, 100_000),
        ({"suffix_bytes": 7}, 99_993, 100_000),
        ({"suffix_bytes": 200_000}, 0, 100_000),
    ],
)
async def test_a_part_of_a_file(sandbox, wanted, first, last):
    await done(sandbox.write("/tmp/bytes", BYTES))
    chunk = await done(sandbox.read_range("/tmp/bytes", **wanted))
    assert chunk.content == BYTES[first:last]
    assert (chunk.start, chunk.end, chunk.total_bytes, chunk.partial) == (first, last, len(BYTES), True)
    assert chunk.etag == (await done(sandbox.stat("/tmp/bytes"))).etag


async def test_a_part_beyond_the_end_is_refused(sandbox):
    await done(sandbox.write("/tmp/bytes", BYTES))
    with pytest.raises(SandboxOperationError) as failure:
        await done(sandbox.read_range("/tmp/bytes", start=len(BYTES)))
    assert f"*/{len(BYTES)}" in str(failure.value)


async def test_a_resumed_read_starts_again_when_the_file_has_changed(sandbox):
    await done(sandbox.write("/tmp/bytes", BYTES))
    etag = (await done(sandbox.stat("/tmp/bytes"))).etag
    same = await done(sandbox.read_range("/tmp/bytes", start=5, if_range=etag))
    assert (same.content, same.partial) == (BYTES[5:], True)
    await done(sandbox.write("/tmp/bytes", "changed"))
    changed = await done(sandbox.read_range("/tmp/bytes", start=5, if_range=etag))
    assert (changed.content, changed.partial, changed.start) == (b"changed", False, 0)


async def test_an_unchanged_file_is_not_sent_again(sandbox):
    await done(sandbox.write("/tmp/bytes", BYTES))
    etag = (await done(sandbox.stat("/tmp/bytes"))).etag
    chunk = await done(sandbox.read_range("/tmp/bytes", start=0, if_none_match=etag))
    assert (chunk.unchanged, chunk.content, chunk.etag) == (True, b"", etag)


@pytest.fixture
async def tree(sandbox):
    for name in ("top.py", "src/main.py", "src/deep/inner.py", "src/deep/note.txt", ".hidden"):
        await done(sandbox.write(f"/home/user/tree/{name}", f"first\nneedle in {name}\n"))
    return sandbox


def below(found) -> list[str]:
    return sorted(match.path.removeprefix("/home/user/tree/") for match in found)


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*.py", ["top.py"]),
        ("**/*.py", ["src/deep/inner.py", "src/main.py", "top.py"]),
        ("src/*", ["src/deep", "src/main.py"]),
        ("src/**/*.txt", ["src/deep/note.txt"]),
        ("s?c/[lm]ain.py", ["src/main.py"]),
        ("nothing*", []),
    ],
)
async def test_glob(tree, pattern, expected):
    found = await done(tree.glob(pattern, "/home/user/tree"))
    assert below(found) == expected
    assert not found.truncated


async def test_ls_has_files_and_directories_with_size_and_time(tree):
    found = {match.path: match for match in await done(tree.ls("/home/user/tree"))}
    assert {"/home/user/tree/top.py", "/home/user/tree/src"} <= found.keys()
    file, directory = found["/home/user/tree/top.py"], found["/home/user/tree/src"]
    assert (file.is_dir, directory.is_dir) == (False, True)
    assert file.size_bytes == len("first\nneedle in top.py\n")
    assert "T" in file.modified_at


async def test_a_search_that_is_cut_short_says_so(tree):
    found = await done(tree.glob("**/*", "/home/user/tree", limit=2))
    assert (len(found), found.truncated) == (2, True)
    found = await done(tree.grep("needle", "/home/user/tree", limit=2))
    assert (len(found), found.truncated) == (2, True)


@pytest.mark.parametrize(
    ("glob", "expected"),
    [
        ("*.py", ["src/deep/inner.py", "src/main.py", "top.py"]),
        ("src/*.py", ["src/main.py"]),
        ("src/**/*.py", ["src/deep/inner.py", "src/main.py"]),
    ],
)
async def test_grep_names_file_line_and_text(tree, glob, expected):
    found = await done(tree.grep("needle in", "/home/user/tree", glob=glob))
    assert below(found) == expected
    assert not found.truncated
    for match in found:
        assert (match.line, match.text) == (2, f"needle in {match.path.removeprefix('/home/user/tree/')}")


async def test_grep_is_literal(tree):
    assert len(await done(tree.grep("needle.in", "/home/user/tree"))) == 0
    await done(tree.write("/home/user/tree/regex", "a.*[b]\n"))
    found = await done(tree.grep(".*[b]", "/home/user/tree"))
    assert [(match.line, match.text) for match in found] == [(1, "a.*[b]")]


async def test_a_missing_file_is_not_found_as_a_file(sandbox):
    with pytest.raises(ResourceNotFoundError) as failure:
        await done(sandbox.read("/nowhere/file"))
    assert failure.value.resource_type == "file"


@pytest.mark.parametrize(
    "call",
    [
        lambda sandbox: sandbox.stat("/nowhere"),
        lambda sandbox: sandbox.read_range("/nowhere", start=0),
        lambda sandbox: sandbox.glob("*", "/nowhere"),
        lambda sandbox: sandbox.ls("/nowhere"),
        lambda sandbox: sandbox.grep("text", "/nowhere"),
    ],
    ids=["stat", "read_range", "glob", "ls", "grep"],
)
async def test_what_is_missing_is_not_found_by_any_call(sandbox, call):
    with pytest.raises(ResourceNotFoundError) as failure:
        await done(call(sandbox))
    assert failure.value.resource_type == "file"


async def test_a_directory_is_no_file(sandbox):
    with pytest.raises(SandboxOperationError) as failure:
        await done(sandbox.read("/tmp"))
    assert failure.value.operation == "read"
    with pytest.raises(SandboxOperationError) as failure:
        await done(sandbox.write("/tmp", "text"))
    assert failure.value.operation == "write"


@pytest.mark.parametrize("size", [4, 16 * 1024 * 1024])
async def test_what_can_not_be_written_is_refused_in_words(sandbox, size):
    # The refusal is known before the content has been sent, and the client reads it after.
    await done(sandbox.write("/tmp/file", "no directory"))
    with pytest.raises(SandboxOperationError) as failure:
        await done(sandbox.write("/tmp/file/below", "x" * size))
    assert (failure.value.operation, failure.value.error_type) == ("write", "WriteError")


@pytest.mark.parametrize("kind", ["mkfifo /tmp/odd", "ln -s /tmp/odd /tmp/odd", "ln -s /nowhere/else /tmp/odd"])
async def test_what_is_no_plain_file_never_hangs(sandbox, kind):
    await done(sandbox.run(kind))
    with pytest.raises((SandboxOperationError, ResourceNotFoundError)):
        await done(sandbox.read("/tmp/odd"))
