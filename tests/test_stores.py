"""Folders of files here and elsewhere, which may fail for a while."""

import errno
import io
import os
import tarfile
import threading
import zipfile
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from faulty_file_system import FaultyFileSystem, register, set_faults
from fsspec.implementations.ftp import FTPFileSystem
from fsspec.implementations.memory import MemoryFileSystem

from pillow_sdc.jobs.storage import stores, writing
from pillow_sdc.jobs.storage.listing import SPECIAL, Entry
from pillow_sdc.jobs.storage.stores import Store, find_source

TMP = "_tmp"


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Have attempts follow each other at once, and what is in memory forgotten."""
    monkeypatch.setattr("tenacity.nap.time.sleep", lambda seconds: None)
    register(monkeypatch, tmp_path_factory.mktemp("faulty"))
    MemoryFileSystem.store.clear()
    MemoryFileSystem.pseudo_dirs[:] = [""]
    yield
    MemoryFileSystem.store.clear()


@pytest.fixture(params=["local", "memory", "faulty", "renaming"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where a store is: on this machine, in memory, and in stand-ins of an object store and of a server of files."""
    if request.param == "local":
        return str(tmp_path / "store")
    return f"{request.param}://{'' if request.param == 'memory' else tmp_path}/store"


def filled(url: str, *paths: str) -> Store:
    store = Store(url)
    for path in paths:
        store.write(path, path.encode(), overwrite=False, through=TMP)
    store.remove(TMP)
    return store


def paths_of(entries: list[Entry]) -> list[str]:
    return [entry.path for entry in entries]


# What a user means


def test_a_folder_is_all_files_in_it_and_in_those_within_it_by_name(url: str) -> None:
    filled(url, "b/c/d.png", "a.png", "b/a.txt")
    store, entries = find_source(url)
    assert store.url == url
    assert entries == [Entry("a.png", 5), Entry("b/a.txt", 7), Entry("b/c/d.png", 9)]
    assert find_source(f"{url}/")[1] == entries
    assert paths_of(find_source(f"{url}/b")[1]) == ["a.txt", "c/d.png"]


def test_a_file_is_one_file_in_its_folder(url: str) -> None:
    filled(url, "b/a.png", "b/c.png")
    store, entries = find_source(f"{url}/b/a.png")
    assert entries == [Entry("a.png", 7)]
    assert store.url == f"{url}/b"
    assert store.url_of("a.png") == f"{url}/b/a.png"
    assert store.read("a.png") == b"b/a.png"


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*.png", ["a.png", "b.png"]),
        ("?.png", ["a.png", "b.png"]),
        ("[b-z].png", ["b.png"]),
        ("*/*.png", ["c/d.png"]),
        ("c/*", ["d.png"]),
        ("c*/d.png", ["c/d.png"]),
        ("**/*.png", ["a.png", "b.png", "c/d.png", "c/e/f.png"]),
        ("**", ["a.png", "b.png", "b.txt", "c/d.png", "c/e/f.png"]),
        ("c/.*/*", [".g/h.png"]),
        ("c/**/f.png", ["e/f.png"]),
    ],
)
def test_a_pattern_is_the_files_that_match(url: str, pattern: str, expected: list[str]) -> None:
    filled(url, "a.png", "b.png", "b.txt", "c/d.png", "c/e/f.png", ".g.png", "c/.g/h.png", "_manifest/i.png")
    assert paths_of(find_source(f"{url}/{pattern}")[1]) == expected


@pytest.mark.parametrize("name", ["", "missing", "missing.png", "*.webp", "missing/*.png"])
def test_nothing_is_an_error_that_names_it(url: str, name: str) -> None:
    filled(url, "a.png")
    source = f"{url}/{name}" if name else f"{url}2"
    with pytest.raises(FileNotFoundError) as caught:
        find_source(source)
    assert source in str(caught.value)


def test_a_name_with_brackets_is_a_name_where_there_is_such_a_file_or_folder(url: str) -> None:
    filled(url, "[1] a?.png", "photos [2020]/b.png")
    assert paths_of(find_source(f"{url}/[1] a?.png")[1]) == ["[1] a?.png"]
    assert paths_of(find_source(f"{url}/photos [2020]")[1]) == ["b.png"]


def test_an_unknown_protocol_is_refused() -> None:
    with pytest.raises(ValueError, match="nonsense"):
        find_source("nonsense://bucket/folder")


def test_relative_paths_become_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(str(tmp_path / "in"), "a.png", "b/c.png")
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "in")
    for source in (".", "./", "../in", f"{tmp_path}/other/../in", f"file://{tmp_path}/in", str(tmp_path / "in")):
        store, entries = find_source(source)
        assert store.url == str(tmp_path / "in")
        assert paths_of(entries) == ["a.png", "b/c.png"]
    for source in ("a.png", "./a.png", "*.png", "../in/a.png"):
        store, entries = find_source(source)
        assert [store.url_of(path) for path in paths_of(entries)] == [f"{tmp_path}/in/a.png"]


def test_a_parent_of_a_link_is_that_of_what_it_leads_to(tmp_path: Path) -> None:
    filled(str(tmp_path / "far"), "a.png", "deep/b.png")
    (tmp_path / "link").symlink_to(tmp_path / "far" / "deep")
    assert paths_of(find_source(f"{tmp_path}/link/../a.png")[1]) == ["a.png"]


def test_a_home_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(str(tmp_path), "a.png")
    monkeypatch.setenv("HOME", str(tmp_path))
    store, entries = find_source("~/*.png")
    assert [store.url_of(path) for path in paths_of(entries)] == [f"{tmp_path}/a.png"]


def test_the_root_of_a_store_is_a_folder_too() -> None:
    filled("memory://", "a.png", "b/c.png")
    for root in ("memory://", "memory:///"):
        store, entries = find_source(root)
        assert paths_of(entries) == ["a.png", "b/c.png"]
        assert paths_of(Store(store.url).find()) == ["a.png", "b/c.png"]  # as workers have it
        assert store.url_of("a.png") == f"{root}a.png"
        assert paths_of(find_source(store.url_of("a.png"))[1]) == ["a.png"]
        assert paths_of(find_source(store.url_of("*/c.png"))[1]) == ["b/c.png"]
    assert str(Store("/")) == "/"
    assert Store("/").url_of("a.png") == "/a.png"


def test_an_archive_is_a_store(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a.png", b"a")
        archive.writestr("b/c.png", b"cc")
    rest = f"::file://{tmp_path}/a.zip"
    store, entries = find_source(f"zip://{rest}")
    assert entries == [Entry("a.png", 1), Entry("b/c.png", 2)]
    assert Store(store.url).read("b/c.png") == b"cc"
    for source, path in ((f"zip://b/c.png{rest}", "c.png"), (f"zip://b/*.png{rest}", "c.png")):
        store, entries = find_source(source)
        assert entries == [Entry(path, 2)]
        assert store.read(path) == b"cc"


class MovingOn(io.BytesIO):
    """A file that lets other threads go on where it was moved to, before it is read there."""

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        place = super().seek(offset, whence)
        threading.Event().wait(0.001)
        return place


@pytest.mark.parametrize("url", ["tar://::{}", "dir://::tar://::{}", "simplecache::tar://::{}"])
def test_threads_take_turns_where_an_archive_is_one_file(tmp_path: Path, url: str) -> None:
    contents = {f"{number}.txt": os.urandom(30_000) for number in range(8)}
    path = tmp_path / "archive.tar"
    with tarfile.open(path, "w") as archive:
        for name, data in contents.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    store = Store(url.format(path))
    files: Any = store._files
    while not hasattr(files, "tar"):
        files = files.fs
    files.tar.fileobj = MovingOn(path.read_bytes())

    def streamed(name: str) -> bytes:
        with store.open(name) as file:
            return file.read()

    with ThreadPoolExecutor(4) as threads:
        assert dict(zip(contents, threads.map(store.read, contents), strict=True)) == contents
        assert dict(zip(contents, threads.map(streamed, contents), strict=True)) == contents


def test_threads_take_turns_where_a_connection_is_one() -> None:
    class Ftp(FTPFileSystem):  # type: ignore[misc]
        cachable = False

        def __init__(self) -> None:
            pass

        def __del__(self) -> None:
            pass

    assert stores._takes_turns(Ftp())
    assert not stores._takes_turns(MemoryFileSystem())


def test_names_that_are_no_utf8_are_found(tmp_path: Path) -> None:
    name = os.fsdecode(b"\xff.png")
    (tmp_path / name).write_bytes(b"a")
    store, entries = find_source(str(tmp_path))
    assert store.read(entries[0].path) == b"a"


def test_links_to_files_are_followed_and_what_is_no_file_is_marked(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"four")
    (tmp_path / "b.png").symlink_to("a.png")
    os.mkfifo(tmp_path / "c.png")
    assert Store(tmp_path).find() == [Entry("a.png", 4), Entry("b.png", 4), Entry("c.png", 0, SPECIAL)]
    assert find_source(str(tmp_path / "b.png"))[1] == [Entry("b.png", 4)]


def test_an_object_that_is_called_as_its_folder_is_no_file_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def find(self: object, path: str, detail: bool) -> dict[str, dict[str, object]]:
        return {
            "/store/a/": {"name": "/store/a/", "size": 0, "type": "file"},
            "/store/a/b.png": {"name": "/store/a/b.png", "size": 1, "type": "file"},
        }

    monkeypatch.setattr(MemoryFileSystem, "find", find)
    assert paths_of(Store("memory://store/a").find()) == ["b.png"]


# Reading and writing


def test_what_was_written_is_read(url: str) -> None:
    store = Store(url)
    store.write("a/b.sdc", b"whole", overwrite=False, through=TMP)
    assert store.read("a/b.sdc") == b"whole"
    assert store.entry("a/b.sdc") == Entry("a/b.sdc", 5)
    assert store.exists("a/b.sdc")
    for path in ("a", "b", "a/b.sdc/c", ""):
        assert store.entry(path) is None
    assert paths_of(store.find()) == ["a/b.sdc"]
    with store.open("a/b.sdc") as file:
        assert file.read(2) == b"wh"
        assert file.seek(-2, io.SEEK_END) == 3
        assert file.read() == b"le"
        assert file.seek(1) == 1
        assert file.seek(1, io.SEEK_CUR) == 2
        assert (file.read(1), file.tell()) == (b"o", 3)


def test_a_file_is_overwritten_only_if_that_is_asked_for(url: str) -> None:
    store = filled(url, "a")
    with pytest.raises(FileExistsError, match="a exists already"):
        store.write("a", b"new", overwrite=False, through=TMP)
    assert store.read("a") == b"a"
    store.write("a", b"new", overwrite=True, through=TMP)
    assert store.read("a") == b"new"
    assert paths_of(store.find()) == ["a"]


def test_a_large_file_appears_when_it_is_published(url: str) -> None:
    store = Store(url)
    with store.written("a/b.tar", overwrite=False, through=TMP) as (temporary, publish):
        temporary.write_bytes(b"whole")
        assert not store.exists("a/b.tar")
        publish()
        assert store.read("a/b.tar") == b"whole"
    assert not temporary.parent.exists()
    assert paths_of(store.find()) == ["a/b.tar"]


def test_a_large_file_that_is_not_published_leaves_nothing(url: str) -> None:
    store = filled(url, "c")

    def fail() -> None:
        with store.written("a/b.tar", overwrite=False, through=TMP) as (temporary, _):
            temporary.write_bytes(b"half")
            raise RuntimeError("on the way")

    with pytest.raises(RuntimeError, match="on the way"):
        fail()
    assert paths_of(store.find()) == ["c"]


def test_a_large_file_is_overwritten_only_if_that_is_asked_for(url: str) -> None:
    store = filled(url, "a")
    for overwrite in (False, True):
        with store.written("a", overwrite=overwrite, through=TMP) as (temporary, publish):
            temporary.write_bytes(b"new")
            if overwrite:
                publish()
            else:
                with pytest.raises(FileExistsError, match="a exists already"):
                    publish()
                assert store.read("a") == b"a"
    assert store.read("a") == b"new"
    assert paths_of(store.find()) == ["a"]


@pytest.mark.parametrize("links", [True, False])
def test_a_file_that_appears_after_the_last_look_is_not_overwritten(
    url: str, links: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Path, target: Path) -> None:
        raise PermissionError(errno.EPERM, "a file system without links")

    store = filled(url, "a")
    monkeypatch.setattr(Store, "exists", lambda self, path: False)
    monkeypatch.setattr(writing, "check_absent", lambda target, force: None)
    if not links:
        monkeypatch.setattr(Path, "hardlink_to", refuse)
    with pytest.raises(FileExistsError):
        store.write("a", b"new", overwrite=False, through=TMP)
    with store.written("a", overwrite=False, through=TMP) as (temporary, publish):
        temporary.write_bytes(b"new")
        with pytest.raises(FileExistsError):
            publish()
    assert store.read("a") == b"a"
    store.write("b", b"new", overwrite=False, through=TMP)
    assert store.read("b") == b"new"
    assert [path for path in paths_of(store.find()) if TMP not in path] == ["a", "b"]


def test_what_is_removed_is_gone_and_what_is_not_there_no_error(url: str) -> None:
    store = filled(url, "a", "b/c", "b/d")
    for path in ("a", "b", "b", "missing/file"):
        store.remove(path)
    assert store.find() == []


def test_one_alone_creates_a_file(url: str) -> None:
    store = Store(url)
    store.create("a/lock", b"mine")
    with pytest.raises(FileExistsError):
        store.create("a/lock", b"other")
    assert store.read("a/lock") == b"mine"
    store.remove("a/lock")
    store.create("a/lock", b"other")


def test_a_file_system_that_cannot_promise_it_creates_a_file_unless_it_is_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(self: object, path: str, mode: str) -> None:
        raise ValueError(f"unknown mode {mode}")

    monkeypatch.setattr(FaultyFileSystem, "_open", refuse)
    monkeypatch.setattr(MemoryFileSystem, "open", refuse)
    monkeypatch.setattr(
        MemoryFileSystem,
        "pipe_file",
        lambda self, path, data: self.store.update({path: type("", (io.BytesIO,), {"size": len(data)})(data)}),
    )
    store = Store("memory://store")
    store.create("lock", b"mine")
    with pytest.raises(FileExistsError):
        store.create("lock", b"other")
    assert store.read("lock") == b"mine"


# Faults


@pytest.fixture(params=["faulty", "renaming"])
def remote(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return Store(f"{request.param}://{tmp_path}/store")


def test_what_fails_for_a_while_is_tried_again(remote: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    set_faults(monkeypatch, failing={"a.sdc": 2, "b.tar": 2, "lock": 2, "store": 2})
    remote.write("a.sdc", b"whole", overwrite=False, through=TMP)
    with remote.written("b.tar", overwrite=False, through=TMP) as (temporary, publish):
        temporary.write_bytes(b"large")
        publish()
    remote.create("lock", b"mine")
    assert (remote.read("a.sdc"), remote.read("b.tar"), remote.read("lock")) == (b"whole", b"large", b"mine")
    assert [path for path in paths_of(remote.find()) if TMP not in path] == ["a.sdc", "b.tar", "lock"]
    counts = Counter[int](count for (what, _), count in FaultyFileSystem.calls.items() if what != "block")
    assert counts[3] == 7  # two were written, one created, three read, and the folder listed


def test_a_file_is_read_on_where_reading_failed(remote: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    data = os.urandom(5 * stores.READ_AHEAD_BYTES // 2)
    remote.write("a.tar", data, overwrite=False, through=TMP)
    set_faults(monkeypatch, failing={"a.tar": 2})
    with remote.open("a.tar") as file:
        assert file.read(10) == data[:10]
        FaultyFileSystem.calls.clear()  # fails again
        assert file.read() == data[10:]


def test_what_fails_for_too_long_fails(remote: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    remote.write("a.sdc", b"whole", overwrite=False, through=TMP)
    set_faults(monkeypatch, failing={"a.sdc": 99, "b.sdc": 99})
    with pytest.raises(ConnectionResetError):
        remote.read("a.sdc")
    with pytest.raises(ConnectionResetError), remote.open("a.sdc"):
        pass
    with pytest.raises(ConnectionResetError):
        remote.write("b.sdc", b"whole", overwrite=False, through=TMP)
    assert sum(count for (what, _), count in FaultyFileSystem.calls.items() if what == "read") == stores.MAX_ATTEMPTS
    assert paths_of(remote.find()) == ["a.sdc"]


def test_a_folder_that_cannot_be_read_is_an_error_and_not_passed_by(
    remote: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in ("a/b/c.png", "d.png"):
        remote.write(path, b"whole", overwrite=False, through=TMP)
    set_faults(monkeypatch, failing={"/a/b": 99})
    with pytest.raises(ConnectionResetError):
        remote.find()
    with pytest.raises(ConnectionResetError):
        remote.find(pattern=("**", "*.png"))
    assert paths_of(remote.find(pattern=("*.png",))) == ["d.png"]


@pytest.mark.parametrize(
    "error",
    [
        FileNotFoundError("gone"),
        PermissionError("no"),
        OSError(errno.ENOSPC, "full"),
        ValueError("nonsense"),
        NotImplementedError(),
    ],
)
def test_what_will_not_pass_is_tried_once(remote: Store, error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    attempts = []

    def fail(self: object, path: str) -> None:
        attempts.append(path)
        raise error

    monkeypatch.setattr(FaultyFileSystem, "cat_file", fail)
    with pytest.raises(type(error)):
        remote.read("a.sdc")
    assert len(attempts) == 1


def test_a_local_disk_that_fails_for_a_while_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    attempts = []
    write_whole = stores.write_whole

    def fail_twice(*arguments: object) -> None:
        attempts.append(arguments)
        if len(attempts) < 3:
            raise OSError(errno.EIO, "for a while")
        write_whole(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(stores, "write_whole", fail_twice)
    Store(tmp_path).write("a", b"whole", overwrite=False, through=TMP)
    assert len(attempts) == 3
    assert (tmp_path / "a").read_bytes() == b"whole"


def test_a_disk_that_is_full_leaves_neither_half_a_file_nor_the_old_one_damaged(
    remote: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    remote.write("a.sdc", b"old one", overwrite=False, through=TMP)
    set_faults(monkeypatch, full=["a.sdc", "b.sdc"])
    for path, overwrite in (("a.sdc", True), ("b.sdc", False)):
        with pytest.raises(OSError, match="No space left"):
            remote.write(path, b"new one", overwrite=overwrite, through=TMP)
    assert remote.read("a.sdc") == b"old one"
    assert paths_of(remote.find()) == ["a.sdc"]
    assert max(FaultyFileSystem.calls.values()) == 1


def test_a_lock_that_was_made_by_an_attempt_that_seemed_to_fail_is_ours(
    remote: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind, method = type(remote._files), "_open" if remote._renames else "pipe_file"
    do = getattr(kind, method)
    attempts = []

    def do_and_fail(self: FaultyFileSystem, path: str, *arguments: object, mode: str = "", **options: object) -> object:
        attempts.append(path)
        if len(attempts) > 1:
            return do(self, path, *arguments, mode=mode, **options)
        Path(self._strip_protocol(path)).parent.mkdir(exist_ok=True)
        Path(self._strip_protocol(path)).write_bytes(b"mine")
        raise ConnectionResetError("after it was written")

    monkeypatch.setattr(kind, method, do_and_fail)
    remote.create("lock", b"mine")
    assert len(attempts) >= 2
    with pytest.raises(FileExistsError):
        remote.create("lock", b"other")
