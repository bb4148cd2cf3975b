"""Files that are there whole or not at all."""

import os
import secrets
import signal
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType


def check_absent(target: Path, force: bool) -> None:
    """Refuse a target that is there already, unless it is a file and may be overwritten.

    Raises:
        FileExistsError: It is.
    """
    if not os.path.lexists(target):
        return
    if not force:
        raise exists_already(target)
    if target.exists() and not target.is_file():
        raise FileExistsError(f"{target} is no regular file, and is not replaced by one")


def exists_already(target: object) -> FileExistsError:
    """Return the error of a target that is there and may not be overwritten."""
    return FileExistsError(f"{target} exists already; --force overwrites it")


def write_whole(target: Path, data: bytes, force: bool, through: Path | None = None) -> None:
    """Write a file under another name and then give it its own; folders are made where there are none.

    Args:
        target: Where to.
        data: Its content.
        force: Whether there may be a file already.
        through: Folder of the other name, on the same file system; the target's unless given.

    Raises:
        FileExistsError: There is such a file, and it may not be overwritten.
        OSError: It cannot be written.
    """
    if target.is_symlink():
        target = target.resolve()  # so that the link stays, and what it points to is replaced
    temporary = (through or target.parent) / f".sdc-{secrets.token_hex(8)}.tmp"
    with undisturbed():
        try:
            for folder in (target.parent, temporary.parent):
                folder.mkdir(parents=True, exist_ok=True)
            with temporary.open("xb") as file:
                file.write(data)
            give_name(temporary, target, force)
        except OSError as error:
            if error.strerror is None:
                raise
            raise OSError(error.errno, f"cannot write {target}: {error.strerror}") from error
        finally:
            with suppress(OSError):  # where there is no folder, there is no file either
                temporary.unlink()


@contextmanager
def undisturbed() -> Iterator[None]:
    """Make Ctrl-C wait for the end of a block, which should take no longer than writing a file."""
    handler = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(handler):
        yield
        return
    waiting: list[tuple[int, FrameType | None]] = []
    signal.signal(signal.SIGINT, lambda number, frame: waiting.append((number, frame)))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
        if waiting:
            handler(*waiting[0])


def give_name(temporary: Path, target: Path, force: bool) -> None:
    """Give a whole file its name, and the permissions of the file that it replaces, if there is one.

    Without ``force`` it never replaces one, nor one that another program makes at the same time.

    Args:
        temporary: The file, on the file system of the target. It may be there under this name afterwards, too.
        target: Its name.
        force: Whether there may be a file already.

    Raises:
        FileExistsError: There is such a file, and it may not be overwritten, or it is no regular file.
        OSError: It cannot be renamed.
    """
    if not force:
        _claim(temporary, target)
        return
    check_absent(target, force)
    if target.exists():
        temporary.chmod(stat.S_IMODE(target.stat().st_mode))
    temporary.replace(target)


def _claim(temporary: Path, target: Path) -> None:
    try:
        target.hardlink_to(temporary)
    except FileExistsError:
        raise exists_already(target) from None
    except OSError:  # a file system without links
        try:
            target.open("xb").close()  # which of several programs one alone can do
        except FileExistsError:
            raise exists_already(target) from None
        try:
            temporary.replace(target)
        except OSError:
            target.unlink()  # it is ours, and empty
            raise
