"""The interface of latent codecs: the base class, what a codec declares, and the data that it takes and returns.

A codec is one class in one module. It derives from :class:`LatentCodec` and declares its number in files, its name, its
options and how it meets a byte budget. Everything else (the container, ``save``, settings, the command line,
``sdc info``) gets codecs from :mod:`.registry` and names none itself. ``docs/adding_a_codec.md`` shows a whole one.

Opening a file and printing a command's help do not import numpy. So a codec's module imports numpy, and everything that
needs it, inside functions. For the same reason codecs look like dataclasses but are not: ``dataclasses`` takes longer
to import than all codecs together.
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
    """Dequantised latents.

    Attributes:
        latents: float32 ``(4, h, w)``, SD-scaled, i.e. of about unit variance.
        noise_variance: The decoder's estimate of the mean squared quantisation error per element.
    """

    latents: "NDArray[np.float32]"
    noise_variance: float


class Option(NamedTuple):
    """An option of a codec, for ``save`` and ``sdc encode``.

    Attributes:
        name: Name of the keyword argument of ``save``.
        range: The allowed values.
        default: The value if the option is not given.
        help: One line of help, without a full stop.
    """

    name: str
    range: Range
    default: float
    help: str


class Budget(NamedTuple):
    """How a codec meets ``target_size``, a limit on the bytes of a file.

    Attributes:
        decides: The option whose value ``target_size`` determines; the two exclude each other.
        help: One line of help for ``target_size`` with this codec, without a full stop.
    """

    decides: str
    help: str


class _Field(NamedTuple):
    default: Any
    range: Range | None = None
    help: str = ""


def option(default: float, range: Range, help: str) -> Any:  # noqa: A002 - named after the fields of Option
    """Declare a field of a codec as an option of ``save`` of the same name."""
    return _Field(default, range, help)


def variant(default: Any) -> Any:
    """Declare a field of a codec that is not an option of ``save``, for benchmarks and tests."""
    return _Field(default)


@dataclass_transform(frozen_default=True)
class LatentCodec(ABC):
    """Encodes SD-scaled latents as a payload, and decodes them.

    An instance holds the encoder's options, given by position or name, and is immutable. Decoding needs no options: the
    payload contains everything that the decoder must know.

    Raises:
        OptionError: An option is outside its range (also a ``ValueError``).
    """

    number: ClassVar[int]
    """Number in the header of files, 0 to 255; never reused for another codec."""

    name: ClassVar[str]
    """Name for users, as in ``save(codec=...)``."""

    help: ClassVar[str]
    """One line of help, without a full stop."""

    budget: ClassVar[Budget | None] = None
    """How :meth:`encode_within` meets a byte budget; ``None`` if the codec cannot."""

    options: ClassVar[Mapping[str, Option]] = {}
    """The options by name, in the order of their declaration; derived from the fields."""

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
        raise AttributeError(f"{type(self).__name__} is immutable")

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
            latents: The latents to encode.
            steps: Counts progress, at most ``encode_steps(h)`` steps.

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
        """Return a payload's parameters by name, numbers and booleans, for ``sdc info``.

        Args:
            payload: A payload that :meth:`decode` has accepted.
        """

    def encode_within(self, latents: "NDArray[np.float32]", payload_bytes: int, steps: Steps = UNCOUNTED) -> bytes:
        """Return the best payload of latents ``(4, h, w)`` with at most ``payload_bytes`` bytes.

        Codecs with a :attr:`budget` override this.

        Returns:
            The payload, or the shortest one found if none fits.

        Raises:
            OptionError: The codec has no budget.
            ValueError: The latents are not ``(4, h, w)`` with finite values.
        """
        raise OptionError(f"target_size is not an option of the codec {self.name}")

    def is_met_by(self, payload: bytes) -> bool:
        """Return whether a payload of this codec is at most as fine as the options ask for.

        If so, quantising its latents again with these options would lose precision or add bytes, and gain nothing.
        Payloads of a codec without options are all alike.
        """
        return not self.options

    def encode_steps(self, rows: int) -> int:
        """Return the largest number of progress steps of :meth:`encode`; 0 if it counts none."""
        return 0

    @staticmethod
    def decode_steps(rows: int) -> int:
        """Return the largest number of progress steps of :meth:`decode` and :meth:`decode_truncated`; 0 for none."""
        return 0

    @classmethod
    def decode_truncated(cls, payload: bytes, rows: int, columns: int, steps: Steps = UNCOUNTED) -> QuantisedLatents:
        """Return the latents ``(4, rows, columns)`` of a truncated payload; the missing ones are zero.

        Raises:
            CorruptFileError: The payload is not the beginning of one that :meth:`encode` writes for this shape.
            TruncatedFileError: It holds no latents yet, or the codec cannot decode part of a payload.
        """
        raise TruncatedFileError(f"a payload of the codec {cls.name} cannot be shown in part")

    @staticmethod
    def codebook(payload: bytes) -> "NDArray[np.float32] | None":
        """Return the codebook of a payload, the vectors that its latents are taken from, in the payload's order.

        Returns:
            SD-scaled vectors ``(entries, 4)``; ``None`` if the codec has no codebook.
        """
        return None


def check_latents(latents: "NDArray[np.float32]") -> "NDArray[np.float64]":
    """Return latents as float64.

    Raises:
        ValueError: The latents are not ``(4, h, w)`` with h, w ≥ 1, or not finite.
    """
    import numpy as np

    if latents.ndim != 3 or latents.shape[0] != 4 or latents.size == 0:
        raise ValueError(f"latents of shape {latents.shape}; expected (4, h, w)")
    if not np.isfinite(latents).all():
        raise ValueError("latents are not finite")
    return latents.astype(np.float64)
