"""The layers of the package, which docs/architecture.md shows and test_layers.py holds."""

LAYERS: tuple[tuple[str, ...], ...] = (
    ("errors", "fork_safety", "progress", "ranges"),
    ("bounded", "signatures"),
    ("latent_codecs",),
    ("container",),
    ("options",),
    ("alpha", "colour_profiles", "models", "preview", "tiling"),
    ("image_codec",),
    ("resaving",),
    ("plugin", "registration", "operations", "batch"),
    ("__init__",),
    ("files",),
    ("runs", "datasets"),
    ("cli", "report", "__main__"),
)
"""From low to high; each entry is a module of the package or a package in it."""


def layer_of(unit: str) -> int:
    return next(i for i, units in enumerate(LAYERS) if unit in units)
