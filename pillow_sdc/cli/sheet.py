"""The sheet that ``sdc view`` draws."""

from typing import IO, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from ..api.display import grey
from ..format import container
from ..format.codecs import CODECS
from ..format.eight_bit import round_levels, to_levels
from ..pipeline import decoding
from ..pipeline.preview import preview, preview_of

PANEL = 256
"""Longer side of a picture on the sheet, about; latents are enlarged by whole factors, or else reduced to this."""

_MARGIN, _LINE = 20, 24
_PAPER, _INK, _FAINT, _EDGE = "white", "#202020", "#707070", "#b0b0b0"
_SQUARES = 8
_SWATCHES_PER_ROW = 16


class _Panel(NamedTuple):
    label: str
    picture: Image.Image


def draw(file: IO[bytes], name: str) -> Image.Image:
    """Return the sheet of an SDC file.

    Raises:
        NotSdcError: The file is not an SDC file.
        OSError: The file is damaged.
    """
    layout = container.read_layout(file)
    header = layout.header
    stored = decoding.prepare(file, layout)
    latents = stored.quantised.latents
    levels = np.moveaxis(round_levels(to_levels(latents)), 0, 2)
    rgba = Image.fromarray(np.ascontiguousarray(levels))
    thumbnail = Image.fromarray(preview_of(stored)).convert("RGBA")
    upper = [
        _Panel("the four channels as RGBA, on white", _on_white(_scaled(rgba))),
        _Panel("preview, no model", _on_squares(_scaled(thumbnail))),
    ]
    entries = CODECS.named(header.codec).codebook(container.read_chunk(file, layout.payload))
    if entries is not None:
        upper.append(_Panel(f"palette of {len(entries)}", _swatches(entries)))
    lower = [
        _Panel(f"channel {number}: {channel.min():.2f} to {channel.max():.2f}", _scaled(grey(channel)))
        for number, channel in enumerate(latents)
    ]
    title = f"{name}: {header.width} by {header.height}, {header.mode}, {header.codec}, {layout.size:,} bytes"
    return _arranged(title, [upper, lower])


def _scaled(picture: Image.Image) -> Image.Image:
    longer = max(picture.size)
    if longer > PANEL:
        size = [max(1, round(side * PANEL / longer)) for side in picture.size]
        return picture.resize((size[0], size[1]), Image.Resampling.BOX)
    factor = PANEL // longer
    return picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST)


def _on_white(picture: Image.Image) -> Image.Image:
    return Image.alpha_composite(Image.new("RGBA", picture.size, _PAPER), picture).convert("RGB")


def _on_squares(picture: Image.Image) -> Image.Image:
    """Return a picture on the squares that stand for transparency."""
    rows, columns = np.indices((picture.height, picture.width)) // _SQUARES
    squares = np.where((rows + columns) % 2, 255, 204).astype(np.uint8)
    ground = Image.fromarray(squares).convert("RGBA")
    return Image.alpha_composite(ground, picture).convert("RGB")


def _swatches(entries: NDArray[np.float32]) -> Image.Image:
    """Return palette entries, each in the colour that a picture of nothing else would have in the preview."""
    alone = np.repeat(np.repeat(entries.T[:, None, :], 3, axis=1), 3, axis=2)
    colours = preview(alone, container.PIXELS_PER_LATENT)[:, 1, 1::3]
    samples = np.clip(np.round((colours.T + 1) * 127.5), 0, 255).astype(np.uint8)
    rows = -(-len(samples) // _SWATCHES_PER_ROW)
    side = PANEL // _SWATCHES_PER_ROW
    picture = Image.new("RGB", (_SWATCHES_PER_ROW * side, rows * side), _PAPER)
    pen = ImageDraw.Draw(picture)
    for number, colour in enumerate(samples.tolist()):
        y, x = (side * place for place in divmod(number, _SWATCHES_PER_ROW))
        pen.rectangle((x, y, x + side - 1, y + side - 1), fill=tuple(colour), outline=_EDGE)
    return picture


def _arranged(title: str, rows: list[list[_Panel]]) -> Image.Image:
    font = ImageFont.load_default(14)
    bold = ImageFont.load_default(17)
    column = max(max(panel.picture.width, int(font.getlength(panel.label))) for row in rows for panel in row)
    heights = [max(panel.picture.height for panel in row) + _LINE + _MARGIN for row in rows]
    width = max(
        _MARGIN + max(len(row) for row in rows) * (column + _MARGIN), 2 * _MARGIN + int(bold.getlength(title)) + 1
    )
    sheet = Image.new("RGB", (width, 2 * _MARGIN + _LINE + sum(heights)), _PAPER)
    pen = ImageDraw.Draw(sheet)
    pen.text((_MARGIN, _MARGIN), title, fill=_INK, font=bold)
    top = 2 * _MARGIN + _LINE
    for row, height in zip(rows, heights, strict=True):
        for number, panel in enumerate(row):
            left = _MARGIN + number * (column + _MARGIN)
            pen.text((left, top), panel.label, fill=_FAINT, font=font)
            sheet.paste(panel.picture, (left, top + _LINE))
        top += height
    return sheet
