"""The two gates to torch, diffusers and transformers: what goes wrong behind them is an error of this package."""

import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from ..errors import ModelFailedError, ModelUnavailableError
from ..runtime.libraries import summary
from ..runtime.torch_state import isolated
from .diffusion.hub import Part, mend_for, unavailable


@contextmanager
def loading(part: Part) -> Iterator[None]:
    """Load, isolated from the caller's torch, and turn whatever the libraries raise into one error.

    Raises:
        ModelUnavailableError: The files of the part are damaged or unsuitable; the cause is attached.
    """
    try:
        with isolated():
            yield
    except ModelUnavailableError:
        raise
    except Exception as error:  # json's, safetensors', torch's, diffusers' and transformers' errors have no common base
        reason = f"{part.place} cannot be loaded ({summary(error)})"
        raise unavailable(part.model, reason, mend_for(part.model)) from error


@contextmanager
def computing(what: str) -> Iterator[None]:
    """Compute with torch, isolated from the caller's, and turn its errors into one.

    Raises:
        ModelFailedError: The block ran out of memory, or torch raised for another reason; the cause is attached.
    """
    try:
        with isolated():
            yield
    except (RuntimeError, MemoryError) as error:  # torch's OutOfMemoryError is a RuntimeError
        # What is computed next, such as half the batch, has to fit beside all that the error's frames still refer to.
        traceback.clear_frames(error.__traceback__)
        raise ModelFailedError(f"{what} failed ({summary(error)})") from error


def finite(array: NDArray[np.float32], what: str) -> NDArray[np.float32]:
    """Return ``array`` if all its values are finite.

    Raises:
        ModelFailedError: They are not.
    """
    if not np.isfinite(array).all():
        raise ModelFailedError(f"{what} failed: its results are not finite numbers")
    return array
