"""How notebooks show latents and what files say of themselves: as small tables and pictures, in HTML."""

import base64
import io
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..pipeline.preview import preview

SIDE = 128
"""Pixels of a picture's longer side in HTML, about."""

MAX_SIDE = 256
"""Latents on a picture's longer side, at most; of more, means are shown."""


class Latents(np.ndarray[Any, np.dtype[np.float32]]):
    """Latents ``(4, h, w)``: an array like any other, but that notebooks show it as pictures.

    What is computed of it, and what is pickled, are plain arrays.
    """

    def __array_wrap__(self, array: Any, context: Any = None, return_scalar: bool = False) -> Any:
        """Return results of numpy's functions as plain arrays."""
        plain = np.asarray(array)
        return plain[()] if return_scalar else plain

    def __reduce__(self) -> Any:
        """Pickle it as a plain array."""
        return np.asarray(self).__reduce__()

    def __repr__(self) -> str:
        """Return what a plain array prints."""
        return repr(np.asarray(self))

    def _repr_html_(self) -> str | None:
        """Return the preview, the four channels and their statistics; ``None`` of what are no latents any more."""
        values = np.asarray(self)
        if values.ndim != 3 or len(values) != 4 or not values.size or not np.isfinite(values).all():
            return None
        cells = [(_as_image(_as_picture(values)), "preview, no model")]
        for number, channel in enumerate(values):
            statistics = f"{channel.min():.2f} to {channel.max():.2f}, σ {channel.std(dtype=np.float64):.2f}"
            cells.append((_as_image(grey(channel)), f"channel {number}: {statistics}"))
        columns = "".join(f"<td>{image}<br>{escape(text)}</td>" for image, text in cells)
        _, rows, width = values.shape
        return (
            f"<table><caption>{values.dtype} latents, 4×{rows}×{width}, SD-scaled</caption><tr>{columns}</tr></table>"
        )


def table(fields: dict[str, Any]) -> str:
    """Return a table of names and values; what a file says is text, whatever it is."""
    rows = "".join(
        f"<tr><th>{escape(name.replace('_', ' '))}</th><td>{escape(value)}</td></tr>" for name, value in fields.items()
    )
    return f"<table>{rows}</table>"


def grey(channel: NDArray[np.float32]) -> Image.Image:
    """Return a channel from its least value, black, to its greatest, white; one of a single value is grey."""
    low, high = float(channel.min()), float(channel.max())
    if low == high:
        return Image.new("L", (channel.shape[1], channel.shape[0]), 128)
    return Image.fromarray(np.uint8(np.round((channel - low) * (255 / (high - low)))))


def _as_picture(latents: NDArray[np.float32]) -> Image.Image:
    pixels = np.moveaxis(preview(latents.astype(np.float32), 8), 0, 2)
    return Image.fromarray(np.uint8(np.clip(np.round((pixels + 1) * 127.5), 0, 255)))


def _as_image(picture: Image.Image) -> str:
    """Return the element of a picture, which is in it."""
    if max(picture.size) > MAX_SIDE:
        scale = MAX_SIDE / max(picture.size)
        width, height = (max(1, round(side * scale)) for side in picture.size)
        picture = picture.resize((width, height), Image.Resampling.BOX)
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    side = "width" if picture.width >= picture.height else "height"
    data = base64.b64encode(buffer.getvalue()).decode()
    return f'<img style="{side}:{SIDE}px;image-rendering:pixelated" alt="" src="data:image/png;base64,{data}">'
