"""The layers of the package, which docs/architecture.md shows and test_layers.py holds."""

LAYERS: tuple[tuple[str, ...], ...] = (
    ("errors", "progress", "ranges"),
    ("runtime",),
    ("format",),
    ("options",),
    ("models",),
    ("pipeline",),
    ("colour_profiles", "originals", "plugin", "registration", "saving"),
    ("api",),
    ("__init__",),
    ("jobs",),
    ("datasets",),
    ("cli", "report", "__main__"),
)
"""From low to high; each entry is a module of the package or a package in it."""


def layer_of(unit: str) -> int:
    return next(i for i, units in enumerate(LAYERS) if unit in units)
