"""Which members of a tar shard are pictures to convert: those that are named, or the one that is the photograph.

A member's *extension* is all that follows the first dot of its file's name, as in WebDataset: ``depth.png`` in
``x/0001.depth.png``. Its *label* is the extension without the format: ``depth``, or nothing in ``x/0001.jpg``.
"""

from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import PurePosixPath

from ..pictures.opening import is_sdc
from .samples import Wanted

LABELS = "", "image"
"""Labels of the photograph where a sample has several pictures."""

LISTED = 8
"""How many names an error lists at most."""


def extension_of(name: str) -> str:
    """Return a member's extension in lower case, such as ``jpg`` or ``depth.png``."""
    return PurePosixPath(name).name.partition(".")[2].lower()


def label_of(name: str) -> str:
    """Return a member's label in lower case, such as ``depth`` of ``0001.depth.png``; empty for ``0001.jpg``."""
    return extension_of(name).rpartition(".")[0]


class Members:
    """All pictures of each sample; one instance serves one shard."""

    def __init__(self, wanted: Wanted) -> None:
        """Set the rule that recognises a picture by its file's name."""
        self._wanted = wanted

    def pictures(self, key: str, names: Sequence[str]) -> list[str]:
        """Return which members of a sample are converted.

        Raises:
            ValueError: It is not clear which.
        """
        return [name for name in names if self._wanted(PurePosixPath(name))]

    def check(self) -> None:
        """Complain, after the last sample, of what shows only then.

        Raises:
            ValueError: No sample has a member that was named.
        """


class NamedMembers(Members):
    """The members that are named by their extension, by the label of a picture, or by a pattern for such."""

    def __init__(self, wanted: Wanted, columns: Sequence[str]) -> None:
        """Set the rule that recognises a picture, and names such as ``jpg``, ``depth.png``, ``depth`` or ``*.png``."""
        super().__init__(wanted)
        self._columns = [column.lower() for column in columns]
        self._found = False
        self._extensions: dict[str, None] = {}

    def pictures(self, key: str, names: Sequence[str]) -> list[str]:
        """Return which members of a sample are named; those named by their whole extension need not look like pictures.

        There may be none, for a sample need not have all that others have.
        """
        named = [name for name in names if self._is_named(name)]
        self._found = self._found or bool(named)
        self._extensions |= dict.fromkeys(map(extension_of, names))
        return named

    def check(self) -> None:
        """Refuse names that no member of the shard has.

        Raises:
            ValueError: No sample has such a member.
        """
        if self._extensions and not self._found:
            columns = " or ".join(map(repr, self._columns))
            raise ValueError(f"no sample has a member {columns}; there are {_listed(list(self._extensions))}")

    def _is_named(self, name: str) -> bool:
        extension = extension_of(name)
        if extension in self._columns:
            return True
        known = extension, label_of(name)
        is_meant = any(fnmatchcase(one, column) for one in known for column in self._columns)
        return is_meant and self._wanted(PurePosixPath(name))


class Photograph(Members):
    """The one picture of each sample; of several the one without a label, or labelled ``image``.

    An SDC file is not taken where a picture of another format has its label: it is the result of that.
    What lies beside the photograph in one sample, such as a mask, is not taken for it where it lies alone in another.
    """

    def __init__(self, wanted: Wanted) -> None:
        """Set the rule that recognises a picture by its file's name."""
        super().__init__(wanted)
        self._taken: set[str] = set()
        self._beside: set[str] = set()

    def pictures(self, key: str, names: Sequence[str]) -> list[str]:
        """Return the photograph of a sample, if it has one.

        Raises:
            ValueError: It is not clear which of several pictures is the photograph.
        """
        pictures = _originals(super().pictures(key, names))
        if len(pictures) > 1:
            photographs = [name for name in pictures if label_of(name) in LABELS]
            if len(photographs) != 1:
                listed = _listed([extension_of(name) for name in pictures])
                raise ValueError(
                    f"the sample {key!r} has several pictures, {listed}, and it is not clear which is the photograph; "
                    "name what to convert with --column"
                )
            self._beside |= {label_of(name) for name in pictures} - set(LABELS)
        else:
            photographs = [name for name in pictures if label_of(name) not in self._beside]
        self._taken |= {label_of(name) for name in photographs}
        if both := self._taken & self._beside:
            raise ValueError(
                f"{both.pop()!r} is the only picture of some samples, but lies beside the photograph in {key!r}; name "
                "what to convert with --column"
            )
        return photographs


def _originals(names: Sequence[str]) -> list[str]:
    """Return the names of pictures without those of SDC files that have the label of another picture."""
    labels = {label_of(name) for name in names if not is_sdc(PurePosixPath(name))}
    return [name for name in names if not is_sdc(PurePosixPath(name)) or label_of(name) not in labels]


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - LISTED:,} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more
