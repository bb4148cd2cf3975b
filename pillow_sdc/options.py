"""Settings: which model decodes, on which device, with how many denoising steps, and which codec a plain save uses.

Sources of settings, each overriding those before it: the defaults (:class:`Settings`), environment variables,
:func:`configure`, and the options of a single call such as ``save``.
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
    "vae": "PILLOW_SDC_VAE",
    "device": "PILLOW_SDC_DEVICE",
    "dtype": "PILLOW_SDC_DTYPE",
    "denoise_steps": "PILLOW_SDC_DENOISE_STEPS",
    "compile": "PILLOW_SDC_COMPILE",
    "codec": "PILLOW_SDC_CODEC",
    "quality": "PILLOW_SDC_QUALITY",
}
_WHOLE_NUMBERS = "denoise_steps", "quality"
_PATHS = "model", "vae"
_EMBEDDED = "compact"
_TRUTH_VALUES = {"0": False, "false": False, "1": True, "true": True}


class Settings(NamedTuple):
    """The settings, with their defaults.

    Attributes:
        model: ``"auto"`` (Stable Diffusion v1.4 if CUDA is available or the model is in the local cache, and if it
            works; else ``"compact"``), ``"compact"`` (the embedded model), a directory in diffusers' layout, a
            safetensors file with a checkpoint of Stable Diffusion v1 or an autoencoder alone, ``~`` expanded, or the id
            of a repository on the Hugging Face hub, also with a revision, ``id@revision``.
        vae: What takes the place of the model's autoencoder: a directory, a file or the id of a repository likewise;
            ``None`` is the model's own. With ``"auto"``, where Stable Diffusion v1.4 would not be taken, it is the
            model itself. ``"compact"`` has none but its own.
        device: ``"auto"`` (the accelerator if there is one, else the CPU) or the name of a torch device; the
            embedded model runs on CUDA only with onnxruntime-gpu, and otherwise on the CPU.
        dtype: ``"auto"`` (half precision on accelerators, float32 on the CPU), ``"float32"``, ``"float16"`` or
            ``"bfloat16"``; the embedded model always computes in 8 bits.
        denoise_steps: Evaluations of the denoiser for one picture, 0 (no denoising) to 1,000.
        compile: Whether torch compiles the networks for recurring shapes; no effect on the embedded model.
        codec: The codec of a ``save`` without ``codec`` and without an option of a codec: ``"palette"``, ``"context"``
            or ``"uint8"``; ``None`` means ``"context"`` if a quality is set, else ``"palette"``.
        quality: The quality of such a file, 1 to 100, for ``"context"`` only; ``None`` means the codec's default
            (``DEFAULT_QUALITY`` in ``format/context/codec.py``).
    """

    model: str = "auto"
    vae: str | None = None
    device: str = "auto"
    dtype: str = "auto"
    denoise_steps: int = 4
    compile: bool = False
    codec: str | None = None
    quality: int | None = None

    @property
    def codec_options(self) -> dict[str, Any]:
        """The options of a ``save`` that is given no option of a codec."""
        options = {"codec": self.codec, "quality": self.quality}
        return {name: value for name, value in options.items() if value is not None}


class Changes(TypedDict, total=False):
    """Some of the fields of :class:`Settings`."""

    model: str | os.PathLike[str]
    vae: str | os.PathLike[str] | None
    device: str
    dtype: str
    denoise_steps: int
    compile: bool
    codec: str | None
    quality: int | None


class configure:  # noqa: N801 - reads as the verb that it is, with or without ``with``
    """Change settings from now on, or, in a ``with`` statement, until its end.

    A plain call affects the whole process, including threads already started. In a ``with`` statement, the changes
    affect only the thread or task of the block; a plain call inside such a block ends with the block. If a codec and a
    quality exclude each other, or a model and an autoencoder, the one set last wins.

    >>> configure(device="cpu")  # doctest: +SKIP
    >>> with configure(denoise_steps=8):  # doctest: +SKIP
    ...     image.load()

    Args:
        **changes: Fields of :class:`Settings`.

    Raises:
        OptionError: A value is outside its range, the codec has no quality, or the model no other autoencoder (also a
            ``ValueError``).
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
    """Return the current settings."""
    within_block = _block_settings.get()
    return within_block if within_block is not None else _process.settings()


def override(base: Settings, changes: Changes) -> Settings:
    """Return ``base`` with some fields changed.

    A codec without a quality removes the quality of ``base``; a quality removes a codec of ``base`` that has none. So
    it is with the embedded model and the autoencoder beside a model.

    Raises:
        OptionError: A value is outside its range, the codec has no quality, or the model no other autoencoder.
    """
    return _changed(base, changes, {name: name for name in Settings._fields})


def _changed(base: Settings, changes: Mapping[str, Any], called: Mapping[str, str]) -> Settings:
    """Return the result of :func:`override`; ``called`` gives the user's name of each field, for errors."""
    fields = {name: _checked(name, value, called[name]) for name, value in changes.items()}
    changed = base._replace(**fields)
    has_quality = changed.codec in (None, *(codec.name for codec in CODECS.takers("quality")))
    if changed.quality is not None and not has_quality:
        if fields.keys() >= {"codec", "quality"}:
            quality, codec = called["quality"], called["codec"]
            takers = CODECS.takers_in_words("quality")
            raise OptionError(f"{quality} is for {takers}, and {codec} is {changed.codec!r}: drop one")
        changed = changed._replace(codec=None) if "quality" in fields else changed._replace(quality=None)
    if changed.vae is not None and changed.model == _EMBEDDED:
        if fields.keys() >= {"model", "vae"}:
            vae, model = called["vae"], called["model"]
            raise OptionError(
                f"{vae} is {changed.vae!r}, and {model} is {changed.model!r}, which has its own: drop one"
            )
        changed = changed._replace(model=Settings().model) if "vae" in fields else changed._replace(vae=None)
    return changed


def _checked(field: str, value: Any, called: str) -> Any:
    """Validate and normalise the value of a field.

    Args:
        field: A field of :class:`Settings`.
        value: The value.
        called: The user's name of the field, for errors.

    Raises:
        OptionError: The value is outside its range.
    """
    if field in _PATHS and isinstance(value, os.PathLike):
        value = os.fspath(value)
    is_allowed, allowed = _RANGES[field]
    if not is_allowed(value):
        raise OptionError(f"{called} is {value!r}; it must be {allowed()}")
    return int(value) if field in _WHOLE_NUMBERS and value is not None else value


def _is_name(value: object) -> bool:
    return isinstance(value, str) and value != ""


def _is_vae(value: object) -> bool:
    return value is None or (_is_name(value) and value not in ("auto", _EMBEDDED))


def _is_one_of(names: Collection[str]) -> Callable[[object], bool]:
    return lambda value: isinstance(value, str) and value in names


def _is_codec(value: object) -> bool:
    return value is None or _is_one_of([*CODECS.names.values()])(value)


def _is_quality(value: object) -> bool:
    return value is None or CODECS.options["quality"].range.allows(value)


_RANGES: dict[str, tuple[Callable[[object], bool], Callable[[], str]]] = {
    "model": (_is_name, lambda: "a name"),
    "vae": (_is_vae, lambda: "a file, a directory or a hub id"),
    "device": (_is_name, lambda: "a name"),
    "dtype": (_is_one_of(DTYPES), lambda: f"one of {', '.join(DTYPES)}"),
    "denoise_steps": (DENOISE_STEPS.allows, lambda: str(DENOISE_STEPS)),
    "compile": (lambda value: isinstance(value, bool), lambda: "True or False, in a variable 1 or 0"),
    "codec": (_is_codec, lambda: f"one of {', '.join(CODECS.names.values())}"),
    "quality": (_is_quality, lambda: str(CODECS.options["quality"].range)),
}
"""By field: the test of a value, and a function that returns the allowed values in words."""


class _ProcessSettings:
    """The settings made by plain calls of :class:`configure`, for the whole process; later calls override earlier ones.

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
        """Revoke this thread's last call if it is the one that made ``changes``; return whether it was."""
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
        """Return the kept changes together with the pending ones of some threads."""
        in_force = dict(self._kept)
        for number, changes in (self._pending[thread] for thread in threads if thread in self._pending):
            for field, value in changes.items():
                if field not in in_force or in_force[field][0] < number:
                    in_force[field] = number, value
        return in_force


def _from_environment() -> Settings:
    """Return the settings from environment variables; an empty variable counts as unset.

    Raises:
        OptionError: A variable has a value outside its range, or sets a quality that the codec of another lacks.
    """
    values: dict[str, Any] = {}
    for field, variable in _ENVIRONMENT.items():
        if text := os.environ.get(variable):
            values[field] = _parsed(field, text)
    return _changed(Settings(), values, _ENVIRONMENT)


def _parsed(field: str, text: str) -> Any:
    """Return the parsed value of a variable; text that cannot be parsed is returned as it is, and refused later."""
    if field == "compile":
        return _TRUTH_VALUES.get(text.lower(), text)
    if field in _WHOLE_NUMBERS:
        with suppress(ValueError):
            return int(text)
    return text


_block_settings: ContextVar[Settings | None] = ContextVar("pillow_sdc_settings", default=None)
_process = _ProcessSettings()
