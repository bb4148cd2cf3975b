"""Pillow's limit on the size of pictures, which protects from decompression bombs and stops large panoramas."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def pixel_limit(most: int | None) -> Iterator[None]:
    """Have Pillow open pictures of at most so many pixels, in all threads of this process, for the length of a block.

    Pillow does not warn of those that have half as many.

    Args:
        most: How many; 0 for no limit, ``None`` for the limit that holds already.
    """
    from PIL import Image

    before = Image.MAX_IMAGE_PIXELS
    if most is not None:
        Image.MAX_IMAGE_PIXELS = -(-most // 2) or None  # Pillow refuses what has more than twice as many
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            yield
    finally:
        Image.MAX_IMAGE_PIXELS = before
