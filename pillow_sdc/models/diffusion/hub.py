"""Where the parts of a model lie on this machine; what is missing is downloaded from the Hugging Face hub.

A model is named by a directory or by the id of a hub repository, which may be pinned to a branch, a tag or a commit,
``id@revision``. It is laid out as :mod:`.layout` says. Parts are looked for one by one, so that encoding pictures never
downloads a U-Net, and on this machine first, without any request to the network. Weights are read from safetensors
files only: pickles can run code.
"""

import logging
import os
import re
import stat
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ...errors import ModelUnavailableError
from ...runtime.libraries import imported, summary
from . import layout
from .checkpoint import check_file, unreadable
from .layout import (
    PARTS,
    PIPELINE_INDEX,
    DamagedFileError,
    LostFileError,
    MissingFileError,
    PartFiles,
    PartName,
    Precision,
    choose_files,
)
from .original_checkpoint import SUFFIX, file_of

if TYPE_CHECKING:
    from huggingface_hub.errors import HfHubHTTPError

DEFAULT_MODEL = "CompVis/stable-diffusion-v1-4"
"""The id of the model that ``"auto"`` prefers."""

_COMMIT = re.compile("[0-9a-f]{40}")
_REVISION = re.compile(r"(?!\.)[\w.+-]+(?:/(?!\.)[\w.+-]+)*")
"""What a revision may be called: no path that leaves the cache."""

_logger = logging.getLogger("pillow_sdc")


@dataclass(frozen=True)
class Part:
    """One part of a model, complete on this machine, and each of its files whole.

    Attributes:
        model: The model it belongs to, as the user named it.
        directory: Holds the part's files.
        files: The part's configuration and weights.
        weights: Those of the files that hold tensors.
        prefix: What the names of the part's tensors begin with, in a file with more than this part.
        has_original_names: Whether their names are, after that, those that Stable Diffusion was published with, and
            not those of diffusers.
    """

    model: str
    directory: Path
    files: tuple[Path, ...]
    weights: tuple[Path, ...]
    prefix: str = ""
    has_original_names: bool = False

    @property
    def place(self) -> Path:
        """The directory, or the file that the weights are in if it lies elsewhere."""
        outside = [file for file in self.weights if file.parent != self.directory]
        return outside[0] if outside else self.directory


def unavailable(model: str, reason: str, mend: str | None = None) -> ModelUnavailableError:
    """Return the error that says why there is no such model, how to name another and how to fetch one.

    Args:
        model: As the user named it.
        reason: What is wrong.
        mend: What to do about it, if that is another thing than to fetch a model.
    """
    fetchable = model if file_of(model) is None and _is_hub_id(model) else DEFAULT_MODEL
    first, last = (f"{mend}, or ", "") if mend else ("", f", or fetch one with `sdc models fetch {fetchable}`")
    return ModelUnavailableError(
        f"model {model!r} is not available: {reason}; {first}name another with pillow_sdc.configure(model=...) or the"
        f" environment variable PILLOW_SDC_MODEL ('compact' comes with this package){last}"
    )


def mend_for(model: str) -> str | None:
    """Return what to do about damaged files of a model, if it came from the hub."""
    if file_of(model) is not None or _directory(model) is not None:
        return None
    return f"delete {_cached_repository(model)} and fetch it again with `sdc models fetch {model}`"


def find(model: str, part: PartName, precision: Precision) -> Part | None:
    """Return a part that is on this machine, or ``None``; the network is not asked.

    Raises:
        ModelUnavailableError: ``model`` is a directory without that part, or neither a directory nor a hub id; or the
            part is damaged, or the hub's cache is.
    """
    with _as_unavailable(model):
        try:
            return _find(model, part, precision)
        except (MissingFileError, LostFileError):
            if _directory(model) is not None:
                raise
            return None


def parts_here(model: str, precision: Precision) -> dict[PartName, Part | None]:
    """Return the parts that a model should have, with ``None`` for those that are not on this machine.

    Of a model that is not here at all that is its autoencoder.

    Raises:
        ModelUnavailableError: As :func:`find`, but not of a directory that lacks a part; also where a part has been
            here and is lost.
    """
    parts: dict[PartName, Part | None] = {}
    with _as_unavailable(model):
        for part in _parts_of(model):
            try:
                parts[part] = _find(model, part, precision)
            except MissingFileError:
                parts[part] = None
    return parts


def is_absent(model: str) -> bool:
    """Tell whether the hub's local cache surely has nothing of a repository, without importing the hub's library."""
    if "huggingface_hub" in sys.modules:
        return False  # it may have been given another folder, and asking it costs little now
    home = os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "huggingface")
    cache = os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE") or Path(home, "hub")
    expanded = os.path.expandvars(os.path.expanduser(cache))  # noqa: PTH111 - Path's raises where there is no such home
    try:
        Path(expanded, f"models--{_revision_of(model)[0].replace('/', '--')}").stat()
    except FileNotFoundError:
        return True
    except OSError:  # something is wrong, and will be named
        return False
    return False


def locate(model: str, part: PartName, precision: Precision) -> Part:
    """Return a part, downloaded if it is not on this machine, as :func:`locate_all` does.

    Raises:
        ModelUnavailableError: The part is not here and cannot be had, or it is damaged; the cause is attached.
    """
    return locate_all(model, (part,), precision)[0]


def locate_all(model: str, parts: Sequence[PartName], precision: Precision) -> list[Part]:
    """Return parts; those that are not on this machine are downloaded together, and a warning says so before.

    Raises:
        ModelUnavailableError: A part is not here and cannot be had, or it is damaged; the cause is attached.
    """
    return _brought(model, parts, precision, logging.WARNING)


def directory_of(model: str) -> Path | None:
    """Return the directory that a model's name stands for, ``~`` expanded, if there is one."""
    path = os.path.expanduser(model)  # noqa: PTH111 - Path's raises where there is no such home
    return Path(path) if os.path.isdir(path) else None  # noqa: PTH112 - Path's raises where it may not look


def folder_of(model: str) -> Path:
    """Return a model's directory, or the folder that its repository has, or would have, in the hub's local cache.

    Raises:
        ModelUnavailableError: ``model`` is neither a directory nor a hub id.
    """
    return _directory(model) or _cached_repository(model)


def is_pipeline(model: str) -> bool:
    """Tell a pipeline from an autoencoder alone; asks the hub if no part of the model is on this machine.

    Raises:
        ModelUnavailableError: The hub was to be asked, and did not answer; or its cache is damaged.
    """
    with _as_unavailable(model):
        try:
            return _is_pipeline_here(model)
        except (MissingFileError, LostFileError):
            if _directory(model) is not None:
                raise
            return PIPELINE_INDEX in _list_files(model)


def fetch(model: str, precision: Precision) -> Path:
    """Bring all parts that encoding and decoding need to this machine, and return the directory that holds them.

    Raises:
        ModelUnavailableError: A part is not here and cannot be had, or it is damaged; the cause is attached.
    """
    if not is_pipeline(model):
        return _brought(model, PARTS[:1], precision, logging.INFO)[0].directory
    return _brought(model, PARTS, precision, logging.INFO)[0].directory.parent


class _Folder:
    """The files in a folder, which is a model's root."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def __contains__(self, name: str) -> bool:
        path = self._root / name
        try:
            mode = path.stat().st_mode
        except (FileNotFoundError, NotADirectoryError):
            if path.is_symlink():
                raise LostFileError(f"{path} is a link to a file that is not there") from None
            return False
        except OSError as error:
            raise unreadable(path, error) from error
        if not stat.S_ISREG(mode):
            raise DamagedFileError(path, "is not a file")
        return True

    def read(self, name: str) -> bytes:
        check_file(self._root / name)
        return (self._root / name).read_bytes()


class _Repository:
    """The files of a repository on the hub."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._sizes = _list_files(model)

    def __contains__(self, name: str) -> bool:
        return name in self._sizes

    def size_of(self, names: Sequence[str]) -> int:
        """Return how many bytes files have together, as far as the hub says."""
        return sum(self._sizes[name] for name in names)

    def read(self, name: str) -> bytes:
        return _Folder(self.download(name)).read(name)

    def download(self, *names: str) -> Path:
        """Bring files to this machine, and return the model's root."""
        from huggingface_hub import snapshot_download

        repository, revision = _revision_of(self._model)
        with _asking_the_hub(self._model):
            return Path(snapshot_download(repository, revision=revision, allow_patterns=[PIPELINE_INDEX, *names]))


def _find(model: str, part: PartName, precision: Precision) -> Part:
    """Return a part that is on this machine.

    Raises:
        MissingFileError: It is not.
        LostFileError: It was.
        DamagedFileError: It is damaged.
        ModelUnavailableError: ``model`` names nothing.
    """
    root = _root_of(model)
    found = _checked(model, root, choose_files(part, precision, _Folder(root)))
    if _directory(model) is None:
        names = (*layout.REQUIRED[part], *layout.OPTIONAL.get(part, ()))
        _check_listing(model, root, [f"{part}/{name}" for name in names])
    return found


def _brought(model: str, parts: Sequence[PartName], precision: Precision, level: int) -> list[Part]:
    """Return parts, and download what is not here of them; ``level`` is that of the message which says so.

    Raises:
        ModelUnavailableError: As :func:`locate_all`.
    """
    found = {part: find(model, part, precision) for part in parts}
    missing = [part for part, here in found.items() if here is None]
    here = {part: here for part, here in found.items() if here is not None}
    if missing:
        here |= _download(model, missing, precision, level)
    return [here[part] for part in parts]


def _download(model: str, parts: Sequence[PartName], precision: Precision, level: int) -> dict[PartName, Part]:
    with _as_unavailable(model):
        repository = _Repository(model)
        chosen = {part: choose_files(part, precision, repository) for part in parts}
        names = [name for files in chosen.values() for name in files.names]
        _logger.log(
            level,
            "downloading %s of %s (%s) from the Hugging Face hub; `sdc models fetch %s` brings a model beforehand",
            " and ".join(part.replace("_", " ") for part in parts),
            model,
            _described(repository.size_of(names)),
            model,
        )
        root = repository.download(*names)
        return {part: _checked(model, root, files) for part, files in chosen.items()}


def _described(size: int) -> str:
    """Return a number of bytes for people; 0 is an unknown one."""
    if not size:
        return "of unknown size"
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:,.1f} MB"


def _checked(model: str, root: Path, chosen: PartFiles) -> Part:
    """Return a part of whose files each is whole."""
    files = tuple(root / name for name in chosen.names)
    for file in (root / PIPELINE_INDEX, *files) if chosen.folder else files:
        check_file(file)
    return Part(model, root / chosen.folder, files, tuple(root / name for name in chosen.weights))


def _is_pipeline_here(model: str) -> bool:
    """Tell a pipeline from an autoencoder alone by what is on this machine.

    Raises:
        MissingFileError: That is not enough.
        LostFileError: What there was is gone.
        DamagedFileError: It is damaged.
    """
    return layout.is_pipeline(_Folder(_root_of(model)))


def _parts_of(model: str) -> tuple[PartName, ...]:
    """Return the parts that a model should have, by what is on this machine."""
    try:
        return PARTS if _is_pipeline_here(model) else PARTS[:1]
    except MissingFileError:
        return PARTS[:1]


def _root_of(model: str) -> Path:
    """Return a model's directory, or its snapshot in the hub's cache.

    Raises:
        MissingFileError: It is not in the cache.
        LostFileError: It was.
        DamagedFileError: The cache does not say which snapshot is the present one.
    """
    return _directory(model) or _cached_snapshot(model)


def _directory(model: str) -> Path | None:
    """Return the directory that a model's name stands for; ``None`` if it is the id of a repository."""
    directory = directory_of(model)
    if directory is None and not _is_hub_id(model):
        reason = "it is neither a file, nor a directory, nor the id of a hub repository, namespace/name[@revision]"
        raise unavailable(model, reason)
    return directory


def _is_hub_id(model: str) -> bool:
    imported("huggingface_hub")
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

    repository, revision = _revision_of(model)
    try:
        validate_repo_id(repository)
    except HFValidationError:
        return False
    return repository.count("/") == 1 and (revision is None or _REVISION.fullmatch(revision) is not None)


def _revision_of(model: str) -> tuple[str, str | None]:
    """Return the id of a repository, and the revision that it is pinned to; ``None`` is its main branch."""
    repository, at, revision = model.partition("@")
    return repository, revision if at else None


def _cached_snapshot(model: str) -> Path:
    from huggingface_hub.constants import DEFAULT_REVISION

    repository, revision = _cached_repository(model), _revision_of(model)[1] or DEFAULT_REVISION
    if _COMMIT.fullmatch(revision):
        snapshot = repository / "snapshots" / revision
        if not snapshot.is_dir():
            raise MissingFileError("that revision is not in the hub's local cache")
        return snapshot
    reference = repository / "refs" / revision
    try:
        commit = reference.read_text("utf-8")
    except FileNotFoundError:
        raise MissingFileError("it is not in the hub's local cache") from None
    except OSError as error:
        raise unreadable(reference, error) from error
    except UnicodeDecodeError as error:
        raise DamagedFileError(reference, f"cannot be read ({error})") from error
    if not _COMMIT.fullmatch(commit):
        raise DamagedFileError(reference, f"holds {commit[:50]!r}, which is not a commit")
    snapshot = repository / "snapshots" / commit
    try:
        snapshot.stat()
    except FileNotFoundError:
        raise LostFileError(f"{reference} names the snapshot {commit}, which is not there") from None
    except OSError as error:
        raise unreadable(snapshot, error) from error
    return snapshot


def _check_listing(model: str, snapshot: Path, names: list[str]) -> None:
    """Check by the listing that the hub's cache may have of a repository whether all files of a part are here.

    Raises:
        MissingFileError: The repository has some of ``names`` that are not.
        DamagedFileError: The listing is damaged.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        repository, _ = _revision_of(model)
        wanted = [PIPELINE_INDEX, *names]
        snapshot_download(repository, revision=snapshot.name, local_files_only=True, allow_patterns=wanted)
    except LocalEntryNotFoundError:
        raise MissingFileError("the hub has more of it than the local cache") from None
    except Exception as error:  # the hub's library does not expect all that a damaged listing may hold
        raise DamagedFileError(snapshot, f"has a listing that cannot be read ({type(error).__name__})") from error


def _cached_repository(model: str) -> Path:
    imported("huggingface_hub")
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    return Path(constants.HF_HUB_CACHE, repo_folder_name(repo_id=_revision_of(model)[0], repo_type="model"))


@contextmanager
def _as_unavailable(model: str) -> Iterator[None]:
    """Say what is wrong with a model's files as the error that the package's users know."""
    try:
        yield
    except DamagedFileError as error:
        raise unavailable(model, str(error), error.mend or mend_for(model)) from error
    except (MissingFileError, LostFileError) as error:
        raise unavailable(model, str(error), _mend_of_folder(model)) from None


def _mend_of_folder(model: str) -> str | None:
    """Return what to do about a directory without a model in diffusers' layout, but with checkpoints."""
    directory = directory_of(model)
    if directory is None or (directory / PIPELINE_INDEX).exists() or (directory / "config.json").exists():
        return None
    checkpoint = min(directory.glob(f"*{SUFFIX}"), default=None)
    return f"name a file in it, such as {checkpoint}" if checkpoint else None


def _list_files(model: str) -> dict[str, int]:
    """Return the files of a repository and the bytes of each, 0 where the hub does not say."""
    imported("huggingface_hub")
    from huggingface_hub import HfApi

    with _asking_the_hub(model):
        # Not list_repo_files, which tries again for 20 seconds where there is no network.
        repository, revision = _revision_of(model)
        files = HfApi().model_info(repository, revision=revision, files_metadata=True).siblings or ()
        return {file.rfilename: file.size or 0 for file in files}


@contextmanager
def _asking_the_hub(model: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # the hub's own errors, the HTTP library's (which one depends on the version), OSError
        raise unavailable(model, *_reason(_http_error_in(error) or error)) from error


def _http_error_in(error: BaseException | None) -> "HfHubHTTPError | None":
    """Return the hub's answer that an error follows from: where it refuses a file, its library says that it is lost."""
    from huggingface_hub.errors import HfHubHTTPError

    while error is not None and not isinstance(error, HfHubHTTPError):
        error = error.__cause__
    return error


def _reason(error: BaseException) -> tuple[str, str | None]:
    """Return why the hub did not deliver, and what to do about it, if that is another thing than to fetch a model."""
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    if isinstance(error, GatedRepoError):
        return (
            "its authors ask you to accept their terms on its hub page, and then to log in with `hf auth login`",
            None,
        )
    if isinstance(error, RepositoryNotFoundError):
        return "there is no such directory here, and no such repository on the hub or none that you may read", None
    if isinstance(error, RevisionNotFoundError):
        return "the repository has no such revision on the hub", None
    if isinstance(error, OfflineModeIsEnabled):
        return "it is not on this machine, and HF_HUB_OFFLINE forbids asking the hub", None
    reason = f"it is not on this machine, and the hub did not deliver it ({summary(error)})"
    if isinstance(error, HfHubHTTPError) and error.response.status_code in (401, 403):
        return reason, "log in with `hf auth login`, by a token that may read it"
    if isinstance(error, PermissionError):
        return reason, f"let this user write {error.filename}, or set HF_HOME to another folder"
    return reason, None
