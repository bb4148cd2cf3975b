"""Context networks of random weights."""

import numpy as np

from pillow_sdc.format.context.network import CHANNELS, CONDITIONS, OUTPUTS

SEEN_NUMBERS = 190


def arrays(seed: int = 0, units: int = 8, size: float = 40) -> dict[str, np.ndarray]:
    """A network of random weights."""
    random = np.random.default_rng(seed)
    shapes = {
        "window": (SEEN_NUMBERS, units),
        "inner0": (units, units),
        "inner1": (units, units),
        "last": (units, OUTPUTS),
    }
    drawn = {}
    for name, (inputs, outputs) in shapes.items():
        weights = random.normal(0, size / inputs**0.5, (CHANNELS, inputs, outputs))
        drawn[f"{name}.weights"] = weights.clip(-127, 127).astype(np.int8)
        drawn[f"{name}.bias"] = random.integers(-500, 500, (CHANNELS, outputs)).astype(np.int32)
        drawn[f"{name}.conditions"] = random.integers(-300, 300, (CHANNELS, outputs, CONDITIONS)).astype(np.int32)
    here = random.integers(-60, 60, (CHANNELS, CHANNELS, units)) * np.tri(CHANNELS, k=-1)[:, :, None]
    return drawn | {"here": here.astype(np.int8)}
