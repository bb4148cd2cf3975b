"""The registry of latent codecs: which there are, and which of them options ask for."""

from collections.abc import Callable, Iterator, Mapping

from ..errors import OptionError
from .codec import LatentCodec, Option

Codec = type[LatentCodec]

TARGET_SIZE = "target_size"
"""The option of ``save`` that all codecs with a budget share: the most bytes that a file may have."""


class Registry:
    """Latent codecs by their numbers and names.

    Attributes:
        default: The codec of files that are saved without an option of any.
    """

    def __init__(self, *codecs: Codec, default: Codec) -> None:
        """Take the codecs that there are from the beginning."""
        self.default = default
        self._codecs: dict[int, Codec] = {}
        for codec in codecs:
            self.register(codec)

    def register(self, codec: Codec) -> None:
        """Add a codec.

        Raises:
            ValueError: Its number is not a byte, its number or name is another codec's, another codec has an option of
                the same name with another range, or its budget decides what is not an option of its own.
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
        """The codecs' names by their numbers."""
        return {codec.number: codec.name for codec in self}

    def named(self, name: object) -> Codec:
        """Return the codec of a name.

        Raises:
            OptionError: There is no such codec.
        """
        for codec in self:
            if codec.name == name:
                return codec
        raise OptionError(f"codec is {name!r}; it must be one of {', '.join(self.names.values())}")

    @property
    def options(self) -> dict[str, Option]:
        """The options of all codecs by their names, but for ``target_size``."""
        return {option.name: option for codec in self for option in codec.options.values()}

    def takers(self, option: str) -> list[Codec]:
        """Return the codecs that take an option, or ``target_size``."""
        return [codec for codec in self if _takes(codec, option)]

    def takers_in_words(self, option: str) -> str:
        """Return which codecs take an option, for error messages: ``the codec context``."""
        names = [codec.name for codec in self.takers(option)]
        return f"the codec{'s' if len(names) > 1 else ''} {' and '.join(names)}"

    def choose(self, given: Mapping[str, object], spelled: Callable[[str], str] = str) -> Codec:
        """Return the codec that options ask for: that of the name, or else the first that takes all of them.

        Args:
            given: Options of ``save``; those that are not ``codec`` or of codecs are passed over.
            spelled: Returns an option's name as the user knows it.

        Raises:
            OptionError: There is no such codec, it does not take one of the options, or ``target_size`` comes with the
                option that follows from it.
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
