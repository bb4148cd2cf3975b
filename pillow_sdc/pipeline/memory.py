"""What happens where a picture is larger than the memory that there is for it."""

from collections.abc import Iterator
from contextlib import contextmanager

from ..errors import InsufficientMemoryError


@contextmanager
def memory_for(size: tuple[int, int]) -> Iterator[None]:
    """Do what takes memory for a picture of so many pixels, width and height.

    Raises:
        InsufficientMemoryError: There is too little.
    """
    try:
        yield
    except MemoryError as error:
        raise InsufficientMemoryError(f"not enough memory for a picture of {size[0]}×{size[1]}") from error
