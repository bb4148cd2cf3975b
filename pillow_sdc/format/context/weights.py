"""The context networks that payloads name: frozen integer weights, a part of the format."""

import hashlib
import io
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...errors import ModelUnavailableError, UnsupportedFileError

FOLDER = Path(__file__).parent / "networks"

CHECKSUMS = {1: "282251229515661df38b511dc76ccf42d8ecacad4e0a44b3a1157c3085915a1f"}
"""SHA-256 of each network's file, by the network's number in payloads. Numbers are never reused."""

NEWEST = max(CHECKSUMS)
"""Number of the network that new payloads use."""


@cache
def network_arrays(number: int) -> Mapping[str, NDArray[np.integer]]:
    """Return a network's arrays, as :class:`.network.ContextNetwork` takes them.

    Raises:
        UnsupportedFileError: There is no such network in this version.
        ModelUnavailableError: The installation is damaged.
    """
    if number not in CHECKSUMS:
        raise UnsupportedFileError(f"context network number {number} is unknown to this version")
    path = FOLDER / f"{number}.npz"
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelUnavailableError(f"{path} is missing ({error}); install pillow-sdc again") from error
    if hashlib.sha256(data).hexdigest() != CHECKSUMS[number]:
        raise ModelUnavailableError(f"{path} is damaged: its checksum is wrong; install pillow-sdc again")
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        return dict(arrays)
