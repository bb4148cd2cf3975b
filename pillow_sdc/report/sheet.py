"""A contact sheet for papers: a row for each picture, a column for each rendition, all labelled."""

import io

from PIL import Image, ImageDraw, ImageFont

from .evaluation import Evaluation, PictureResults
from .metrics import Samples

LARGE_CELL, SMALL_CELL = 384, 256
FEW_PICTURES = 4
"""Up to as many have large cells."""

GAP = 6
LINE, TEXT = 1 / 12, 1 / 16
"""Height of a line and of its letters, as fractions of a cell's side: legible where a sheet is as wide as a page."""


def draw_sheet(evaluation: Evaluation) -> bytes:
    """Return the PNG file of the sheet."""
    pictures = evaluation.pictures
    side = LARGE_CELL if len(pictures) <= FEW_PICTURES else SMALL_CELL
    keys = list(dict.fromkeys(result.key for picture in pictures for result in picture.results))
    heights = [min(side, round(side * picture.shown.shape[0] / picture.shown.shape[1])) for picture in pictures]
    caption = 2 * round(LINE * side)
    width = (1 + len(keys)) * (side + GAP) + GAP
    sheet = Image.new("RGB", (width, sum(height + caption + GAP for height in heights) + GAP), "white")
    top = GAP
    for picture, height in zip(pictures, heights, strict=True):
        _draw_row(sheet, top, picture, keys, (side, height))
        top += height + caption + GAP
    file = io.BytesIO()
    sheet.save(file, "PNG", optimize=True)
    return file.getvalue()


def _draw_row(sheet: Image.Image, top: int, picture: PictureResults, keys: list[str], cell: tuple[int, int]) -> None:
    by_key = {result.key: result for result in picture.results}
    _draw_cell(sheet, (GAP, top), cell, picture.shown, ("Original", picture.name))
    for column, key in enumerate(keys, start=1):
        result = by_key.get(key)
        if result is None or result.shown is None:
            continue
        rate = f"{result.file_bytes:,.0f} bytes, {result.bits_per_pixel:.3f} bpp"
        _draw_cell(sheet, (GAP + column * (cell[0] + GAP), top), cell, result.shown, (result.label, rate))


def _draw_cell(
    sheet: Image.Image, place: tuple[int, int], cell: tuple[int, int], samples: Samples, lines: tuple[str, str]
) -> None:
    """Draw two lines, and below them a picture as large as fits, enlarged no further than to whole pixels."""
    left, top = place
    line_height = round(LINE * cell[0])
    font = ImageFont.load_default(TEXT * cell[0])
    draw = ImageDraw.Draw(sheet)
    for number, line in enumerate(lines):
        text = _fitted(line, cell[0], font)
        draw.text((left, top + number * line_height), text, fill="black" if number == 0 else "#555555", font=font)
    picture = Image.fromarray(samples)
    scale = min(cell[0] / picture.width, cell[1] / picture.height)
    if scale >= 1:
        picture = picture.resize((picture.width * int(scale), picture.height * int(scale)), Image.Resampling.NEAREST)
    else:
        size = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
        picture = picture.resize(size, Image.Resampling.LANCZOS)
    sheet.paste(picture, (left, top + 2 * line_height))


def _fitted(text: str, width: int, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    """Return a text, truncated if it is too long for the cell."""
    text = "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "…") > width:
        text = text[:-1]
    return text + "…"
