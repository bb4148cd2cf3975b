"""The registry of latent codecs: looks codecs up by number, name and options."""

from collections.abc import Callable, Iterator, Mapping

from ..errors import OptionError
from .codec import LatentCodec, Option

Codec = type[LatentCodec]

TARGET_SIZE = "target_size"
"""The option of ``save`` that all codecs with a budget share: the largest number of bytes of the file."""


class Registry:
    """Latent codecs by number and name.

    Attributes:
        default: The codec of files saved without an option of any codec.
    """

    def __init__(self, *codecs: Codec, default: Codec) -> None:
        """Register the built-in codecs."""
        self.default = default
        self._codecs: dict[int, Codec] = {}
        for codec in codecs:
            self.register(codec)

    def register(self, codec: Codec) -> None:
        """Add a codec.

        Raises:
            ValueError: The number is not a byte, the number or name is taken, another codec has an option of the same
                name with another range, or the budget decides something that is not an option of the codec.
        """
        if not 0 <= codec.number <= 255:
            raise ValueError(f"the number of the codec {codec.name} is {codec.number}; it must be from 0 to 255")
        if codec.budget is not None and codec.budget.decides not in codec.options:
            raise ValueError(f"the budget of the codec {codec.name} decides {codec.budget.decides!r}, not its option")
        for other in self:
            if codec.number == other.number or codec.name == other.name:
                raise ValueError(f"codec {codec.number}, {codec.name!r}, is {other.number}, {other.name!r}, already")
            for name in codec.options.keys() & other.options.keys():
                if codec.options[name].range != other.options[name].range:
                    raise ValueError(f"{name} of the codec {codec.name} has another range than that of {other.name}")
        self._codecs[codec.number] = codec

    def __iter__(self) -> Iterator[Codec]:
        """Yield the codecs in the order of their registration."""
        return iter(self._codecs.values())

    @property
    def names(self) -> dict[int, str]:
        """The codecs' names by number."""
        return {codec.number: codec.name for codec in self}

    def named(self, name: object) -> Codec:
        """Return the codec with a name.

        Raises:
            OptionError: There is no such codec.
        """
        for codec in self:
            if codec.name == name:
                return codec
        raise OptionError(f"codec is {name!r}; it must be one of {', '.join(self.names.values())}")

    @property
    def options(self) -> dict[str, Option]:
        """The options of all codecs by name, without ``target_size``."""
        return {option.name: option for codec in self for option in codec.options.values()}

    def takers(self, option: str) -> list[Codec]:
        """Return the codecs that take an option, or ``target_size``."""
        return [codec for codec in self if _takes(codec, option)]

    def takers_in_words(self, option: str) -> str:
        """Return the names of the codecs that take an option, for error messages: ``the codec context``."""
        names = [codec.name for codec in self.takers(option)]
        return f"the codec{'s' if len(names) > 1 else ''} {' and '.join(names)}"

    def choose(self, given: Mapping[str, object], spelled: Callable[[str], str] = str) -> Codec:
        """Return the codec that options ask for: the one named, or else the first that takes all of them.

        Args:
            given: Options of ``save``; those that are neither ``codec`` nor an option of a codec are ignored.
            spelled: Returns an option's name as the user knows it.

        Raises:
            OptionError: There is no such codec, the codec does not take one of the options, or ``target_size`` is given
                together with the option that it determines.
        """
        options = sorted(given.keys() & {*self.options, TARGET_SIZE})
        if "codec" in given:
            codec = self.named(given["codec"])
        elif options:
            of_all = (codec for codec in self if all(_takes(codec, option) for option in options))
            codec = next(of_all, self.takers(options[0])[0])
        else:
            codec = self.default
        for option in options:
            if not _takes(codec, option):
                takers = self.takers_in_words(option)
                raise OptionError(f"{spelled(option)} is an option of {takers}, not of {codec.name}")
        if TARGET_SIZE in options and codec.budget is not None and (decided := codec.budget.decides) in options:
            both = f"{spelled(decided)} and {spelled(TARGET_SIZE)}"
            raise OptionError(f"{both} exclude each other: the size decides what the {decided} is")
        return codec


def _takes(codec: Codec, option: str) -> bool:
    return codec.budget is not None if option == TARGET_SIZE else option in codec.options
