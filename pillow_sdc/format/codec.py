"""What a latent codec is: its contract, what it declares of itself, and the data that pass in and out of it.

A codec is one class in one file. It derives from :class:`LatentCodec` and declares its number in files, its name, its
options and how it meets a byte budget. Everything else (the container, ``save``, settings, the command line,
``sdc info``) asks :mod:`.registry` for codecs, and knows none by itself.

Files are opened, and commands give help, without numpy. So a codec's own file imports numpy, and all that needs it,
inside functions. For the same reason codecs look like dataclasses, but are none: ``dataclasses`` takes longer to import
than all codecs together.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, dataclass_transform

from ..errors import OptionError, TruncatedFileError
from ..progress import UNCOUNTED, Steps
from ..ranges import Range

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class QuantisedLatents(NamedTuple):
    """Latents as a payload gives them back.

    Attributes:
        latents: float32 ``(4, h, w)``, SD-scaled, i.e. of about unit variance.
        noise_variance: Mean square, per element, of what quantisation added to the encoder's latents, as far as the
            decoder can tell.
    """

    latents: "NDArray[np.float32]"
    noise_variance: float


class Option(NamedTuple):
    """An option of ``save`` that a codec takes, and of ``sdc encode``.

    Attributes:
        name: As it is given to ``save``.
        range: The values that it takes.
        default: What holds where it is not given.
        help: What it is, in a line, without a full stop.
    """

    name: str
    range: Range
    default: float
    help: str


class Budget(NamedTuple):
    """How a codec meets ``target_size``, the most bytes that a file may have.

    Attributes:
        decides: The option whose value follows from the bytes, and which cannot be given beside them.
        help: What a file of so many bytes is, in a line, without a full stop.
    """

    decides: str
    help: str


class _Field(NamedTuple):
    default: Any
    range: Range | None = None
    help: str = ""


def option(default: float, range: Range, help: str) -> Any:  # noqa: A002 - named as what they become
    """Declare a field of a codec to be an option of ``save``, of that name."""
    return _Field(default, range, help)


def variant(default: Any) -> Any:
    """Declare a field of a codec that ``save`` does not offer, for measurements and tests."""
    return _Field(default)


@dataclass_transform(frozen_default=True)
class LatentCodec(ABC):
    """Turns SD-scaled latents into a payload and back.

    An instance carries the encoder's options, given by position or name, and does not change. Decoding needs none: what
    it must know stands in the payload.

    Raises:
        OptionError: An option is outside its range (also a ``ValueError``).
    """

    number: ClassVar[int]
    """What headers of files name it by, 0 to 255; never given to another codec."""

    name: ClassVar[str]
    """What users name it by, as in ``save(codec=...)``."""

    help: ClassVar[str]
    """What it is, in a line, without a full stop."""

    budget: ClassVar[Budget | None] = None
    """How :meth:`encode_within` meets a number of bytes; ``None`` where the codec cannot."""

    options: ClassVar[Mapping[str, Option]] = {}
    """The options by their names, in the order in which they are declared; taken from the fields."""

    _defaults: ClassVar[Mapping[str, Any]] = {}

    def __init_subclass__(cls) -> None:
        fields = {name: value for name, value in vars(cls).items() if isinstance(value, _Field)}
        cls._defaults = {**cls._defaults, **{name: each.default for name, each in fields.items()}}
        options = {
            name: Option(name, each.range, each.default, each.help) for name, each in fields.items() if each.range
        }
        cls.options = {**cls.options, **options}

    def __init__(self, *values: Any, **named: Any) -> None:
        given = dict(zip(self._defaults, values, strict=False)) | named
        if len(given) < len(values) + len(named) or not given.keys() <= self._defaults.keys():
            names = f"{', '.join(self._defaults)}, each once" if self._defaults else "no options"
            raise TypeError(f"{type(self).__name__} takes {names}")
        for each in self.options.values():
            if each.name in given and not each.range.allows(given[each.name]):
                raise OptionError(f"{each.name} is {given[each.name]!r}; it must be {each.range}")
        vars(self).update({**self._defaults, **given})

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{type(self).__name__} does not change")

    def __eq__(self, other: object) -> bool:
        return vars(self) == vars(other) if type(self) is type(other) else NotImplemented

    def __hash__(self) -> int:
        return hash((type(self), *vars(self).values()))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in vars(self).items())})"

    @abstractmethod
    def encode(self, latents: "NDArray[np.float32]", steps: Steps = UNCOUNTED) -> bytes:
        """Return the payload of latents ``(4, h, w)``.

        Args:
            latents: What is encoded.
            steps: Learns of each step that is done, of the ``encode_steps(h)`` that there are.

        Raises:
            ValueError: The latents are not ``(4, h, w)`` with finite values.
        """

    @staticmethod
    @abstractmethod
    def decode(payload: bytes, rows: int, columns: int, steps: Steps = UNCOUNTED) -> QuantisedLatents:
        """Return the latents of a payload, ``(4, rows, columns)``, the same on every machine.

        Raises:
            CorruptFileError: The payload is not one that :meth:`encode` writes for this shape.
        """

    @staticmethod
    @abstractmethod
    def describe(payload: bytes) -> dict[str, Any]:
        """Return what a payload says of how it was made, by name: numbers and truth values, for ``sdc info``.

        Args:
            payload: One that :meth:`decode` has accepted.
        """

    def encode_within(self, latents: "NDArray[np.float32]", payload_bytes: int, steps: Steps = UNCOUNTED) -> bytes:
        """Return the best payload of latents ``(4, h, w)`` that has no more than so many bytes.

        Codecs that have a :attr:`budget` override this.

        Returns:
            The payload, or the shortest that was found where none fits.

        Raises:
            OptionError: The codec cannot meet a number of bytes.
            ValueError: The latents are not ``(4, h, w)`` with finite values.
        """
        raise OptionError(f"target_size is not an option of the codec {self.name}")

    def is_met_by(self, payload: bytes) -> bool:
        """Tell whether a payload of this codec is no finer than the options ask for.

        To quantise its latents anew, with these options, would then cost precision or bytes, and gain nothing. Without
        options all payloads are alike.
        """
        return not self.options

    def encode_steps(self, rows: int) -> int:
        """Return how many steps :meth:`encode` takes at most; 0 where it is done at once."""
        return 0

    @staticmethod
    def decode_steps(rows: int) -> int:
        """Return how many steps :meth:`decode` and :meth:`decode_truncated` take at most; 0 likewise."""
        return 0

    @classmethod
    def decode_truncated(cls, payload: bytes, rows: int, columns: int, steps: Steps = UNCOUNTED) -> QuantisedLatents:
        """Return the latents that the beginning of a payload holds, ``(4, rows, columns)``; the others are zero.

        Raises:
            CorruptFileError: The payload is not the beginning of one that :meth:`encode` writes for this shape, or
                holds nothing yet (:class:`TruncatedFileError`), as always where no picture can be made of a part.
        """
        raise TruncatedFileError(f"a payload of the codec {cls.name} cannot be shown in part")

    @staticmethod
    def codebook(payload: bytes) -> "NDArray[np.float32] | None":
        """Return the latents, SD-scaled ``(entries, 4)``, that all of a payload's are taken from, in its order.

        Returns:
            The entries; ``None`` where a payload has no such thing.
        """
        return None


def check_latents(latents: "NDArray[np.float32]") -> "NDArray[np.float64]":
    """Return latents as float64.

    Raises:
        ValueError: They are not ``(4, h, w)`` with h, w ≥ 1, or not finite.
    """
    import numpy as np

    if latents.ndim != 3 or latents.shape[0] != 4 or latents.size == 0:
        raise ValueError(f"latents of shape {latents.shape}; expected (4, h, w)")
    if not np.isfinite(latents).all():
        raise ValueError("latents are not finite")
    return latents.astype(np.float64)
