"""Settings: which model decodes, on which device, with how many denoising steps, and which codec a plain save uses.

They come, the later over the earlier, from the defaults, from environment variables, from :func:`configure`, and
from the options of a single call such as ``save``.
"""

import itertools
import os
import threading
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from contextvars import ContextVar
from types import TracebackType
from typing import Any, NamedTuple, TypedDict, Unpack

from .errors import OptionError
from .format.codecs import CODECS
from .ranges import Range
from .runtime.fork_safety import ForkSafeLock

DTYPES = ("auto", "float32", "float16", "bfloat16")
DENOISE_STEPS = Range(int, 0, 1000)

_ENVIRONMENT = {
    "model": "PILLOW_SDC_MODEL",
    "device": "PILLOW_SDC_DEVICE",
    "dtype": "PILLOW_SDC_DTYPE",
    "denoise_steps": "PILLOW_SDC_DENOISE_STEPS",
    "compile": "PILLOW_SDC_COMPILE",
    "codec": "PILLOW_SDC_CODEC",
    "quality": "PILLOW_SDC_QUALITY",
}
_WHOLE_NUMBERS = "denoise_steps", "quality"
_TRUTH_VALUES = {"0": False, "false": False, "1": True, "true": True}


class Settings(NamedTuple):
    """What decides how pictures become latents and latents pictures.

    Attributes:
        model: ``"auto"`` (Stable Diffusion v1.4 where there is CUDA or where it is in the local cache, if it works;
            else ``"compact"``), ``"compact"`` (the embedded model), a directory in diffusers' layout, whose ``~`` is
            expanded, or the id of a repository on the Hugging Face hub.
        device: ``"auto"`` (CUDA where there is one, else the CPU) or the name of a torch device; the embedded model
            computes on CUDA only with onnxruntime-gpu, and else on the CPU.
        dtype: ``"auto"`` (float16 on CUDA, float32 elsewhere), ``"float32"``, ``"float16"`` or ``"bfloat16"``; the
            embedded model always computes in 8 bits.
        denoise_steps: Evaluations of the denoiser for one picture, 0 (no denoising) to 1,000.
        compile: Whether torch compiles the networks, for shapes of batches that recur; the embedded ones need none.
        codec: What ``save`` writes where it is given neither a codec nor an option of one: ``"palette"``,
            ``"context"`` or ``"uint8"``; ``None`` is ``"context"`` where there is a quality, else ``"palette"``.
        quality: That of such a file, 1 to 100, for ``"context"`` alone; ``None`` is the codec's own.
    """

    model: str = "auto"
    device: str = "auto"
    dtype: str = "auto"
    denoise_steps: int = 4
    compile: bool = False
    codec: str | None = None
    quality: int | None = None

    @property
    def codec_options(self) -> dict[str, Any]:
        """The options of ``save`` that hold where it is given none of a codec."""
        options = {"codec": self.codec, "quality": self.quality}
        return {name: value for name, value in options.items() if value is not None}


class Changes(TypedDict, total=False):
    """Some of the fields of :class:`Settings`."""

    model: str | os.PathLike[str]
    device: str
    dtype: str
    denoise_steps: int
    compile: bool
    codec: str | None
    quality: int | None


class configure:  # noqa: N801 - reads as the verb that it is, with or without ``with``
    """Change settings from now on, or, in a ``with`` statement, until its end.

    A plain call holds for the whole process, threads started later and earlier included. Within a ``with`` block the
    changes belong to the block's own thread or task and do not disturb others; a plain call made inside such a block
    ends with it. Of a codec and a quality that exclude each other the one that was set last holds.

    >>> configure(device="cpu")  # doctest: +SKIP
    >>> with configure(denoise_steps=8):  # doctest: +SKIP
    ...     image.load()

    Args:
        **changes: Fields of :class:`Settings`.

    Raises:
        OptionError: A value is outside its range, or the codec has no quality (also a ``ValueError``).
        TypeError: A name is not a setting.
        RuntimeError: A ``with`` statement enters a call that it did not make itself.
    """

    def __init__(self, **changes: Unpack[Changes]) -> None:
        unknown = changes.keys() - set(Settings._fields)
        if unknown:
            raise TypeError(f"unknown setting {min(unknown)!r}; the settings are {', '.join(Settings._fields)}")
        override(Settings(), changes)  # validates, so that a wrong value fails here and not at the next picture
        self._changes = changes
        self._outer = _block_settings.get()
        self._inner = None if self._outer is None else override(self._outer, changes)
        if self._outer is None:
            _process.change(changes)
        else:
            _block_settings.set(self._inner)

    def __enter__(self) -> Settings:
        if _block_settings.get() is not self._inner or (self._outer is None and not _process.withdraw(self._changes)):
            raise RuntimeError("configure(...) can be entered only by the with statement that calls it, and once")
        if self._inner is None:
            self._inner = override(_process.settings(), self._changes)
            _block_settings.set(self._inner)
        return self._inner

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        _block_settings.set(self._outer)


def settings() -> Settings:
    """Return the settings that hold here and now."""
    within_block = _block_settings.get()
    return within_block if within_block is not None else _process.settings()


def override(base: Settings, changes: Changes) -> Settings:
    """Return ``base`` with some fields changed.

    A codec without a quality takes that of ``base`` away, and a quality the codec of ``base`` that has none.

    Raises:
        OptionError: A value is outside its range, or the codec has no quality.
    """
    return _changed(base, changes, {name: name for name in Settings._fields})


def _changed(base: Settings, changes: Mapping[str, Any], called: Mapping[str, str]) -> Settings:
    """Do as :func:`override`, with what the user calls each field."""
    fields = {name: _checked(name, value, called[name]) for name, value in changes.items()}
    changed = base._replace(**fields)
    if changed.quality is None or changed.codec in (None, *(codec.name for codec in CODECS.takers("quality"))):
        return changed
    if fields.keys() >= {"codec", "quality"}:
        quality, codec = called["quality"], called["codec"]
        takers = CODECS.takers_in_words("quality")
        raise OptionError(f"{quality} is for {takers}, and {codec} is {changed.codec!r}: drop one")
    return changed._replace(codec=None) if "quality" in fields else changed._replace(quality=None)


def _checked(field: str, value: Any, called: str) -> Any:
    """Return a value of a field as it is kept.

    Args:
        field: One of :class:`Settings`.
        value: The value.
        called: What the user calls the field.

    Raises:
        OptionError: The value is outside its range.
    """
    if field == "model" and isinstance(value, os.PathLike):
        value = os.fspath(value)
    is_allowed, allowed = _RANGES[field]
    if not is_allowed(value):
        raise OptionError(f"{called} is {value!r}; it must be {allowed()}")
    return int(value) if field in _WHOLE_NUMBERS and value is not None else value


def _is_name(value: object) -> bool:
    return isinstance(value, str) and value != ""


def _is_one_of(names: Collection[str]) -> Callable[[object], bool]:
    return lambda value: isinstance(value, str) and value in names


def _is_codec(value: object) -> bool:
    return value is None or _is_one_of([*CODECS.names.values()])(value)


def _is_quality(value: object) -> bool:
    return value is None or CODECS.options["quality"].range.allows(value)


_RANGES: dict[str, tuple[Callable[[object], bool], Callable[[], str]]] = {
    "model": (_is_name, lambda: "a name"),
    "device": (_is_name, lambda: "a name"),
    "dtype": (_is_one_of(DTYPES), lambda: f"one of {', '.join(DTYPES)}"),
    "denoise_steps": (DENOISE_STEPS.allows, lambda: str(DENOISE_STEPS)),
    "compile": (lambda value: isinstance(value, bool), lambda: "True or False, in a variable 1 or 0"),
    "codec": (_is_codec, lambda: f"one of {', '.join(CODECS.names.values())}"),
    "quality": (_is_quality, lambda: str(CODECS.options["quality"].range)),
}
"""By field: what tells whether a value is allowed, and what returns in words which values are."""


class _ProcessSettings:
    """What plain calls of :class:`configure` have set for the whole process, the later over the earlier.

    A call cannot know whether a ``with`` statement follows. So its changes stay *pending*, in force but revocable,
    until the same thread calls again; ``__enter__`` withdraws them and makes them the block's own.
    """

    def __init__(self) -> None:
        self._lock = ForkSafeLock()
        self._calls = itertools.count()
        self._kept: dict[str, tuple[int, Any]] = {}  # by field: the number of the call, and the value
        self._pending: dict[int, tuple[int, Changes]] = {}  # by thread

    def change(self, changes: Changes) -> None:
        thread = threading.get_ident()
        with self._lock:
            self._kept = self._in_force(thread)
            self._pending[thread] = next(self._calls), changes

    def withdraw(self, changes: Changes) -> bool:
        """Take back this thread's last call; tell whether that is the one that made ``changes``."""
        thread = threading.get_ident()
        with self._lock:
            _, last = self._pending.get(thread, (0, None))
            if last is not changes:
                return False
            del self._pending[thread]
            return True

    def settings(self) -> Settings:
        with self._lock:
            in_force = self._in_force(*self._pending)
        settings = _from_environment()
        for call in sorted({number for number, _ in in_force.values()}):
            changes: Any = {field: value for field, (number, value) in in_force.items() if number == call}
            settings = override(settings, changes)
        return settings

    def _in_force(self, *threads: int) -> dict[str, tuple[int, Any]]:
        """Return what is kept together with what is pending of some threads."""
        in_force = dict(self._kept)
        for number, changes in (self._pending[thread] for thread in threads if thread in self._pending):
            for field, value in changes.items():
                if field not in in_force or in_force[field][0] < number:
                    in_force[field] = number, value
        return in_force


def _from_environment() -> Settings:
    """Return the settings that environment variables make; an empty one is as good as none.

    Raises:
        OptionError: The value of a variable is outside its range, or the codec of one has not the quality of another.
    """
    values: dict[str, Any] = {}
    for field, variable in _ENVIRONMENT.items():
        if text := os.environ.get(variable):
            values[field] = _parsed(field, text)
    return _changed(Settings(), values, _ENVIRONMENT)


def _parsed(field: str, text: str) -> Any:
    """Return what the text of a variable stands for, or the text itself, which is refused, if that is nothing."""
    if field == "compile":
        return _TRUTH_VALUES.get(text.lower(), text)
    if field in _WHOLE_NUMBERS:
        with suppress(ValueError):
            return int(text)
    return text


_block_settings: ContextVar[Settings | None] = ContextVar("pillow_sdc_settings", default=None)
_process = _ProcessSettings()
