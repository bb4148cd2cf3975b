"""Saving an opened file again: its payload as it is, or its latents quantised anew, and no model in either case.

As long as the pixels of a picture are those that its file gave, the latents of the file are those of the picture, and
better ones cannot be had: decoding them by one network and encoding the pixels by another only loses.
"""

from typing import TYPE_CHECKING, NamedTuple

from ..format import container

if TYPE_CHECKING:
    from .encoding import EncodeOptions


class Unmodified(NamedTuple):
    """What the file of an unmodified picture holds.

    Attributes:
        content: The latents and alpha, still coded.
        is_checked: Whether they have been decoded before, and so are known to be undamaged.
    """

    content: container.Content
    is_checked: bool


def is_met(content: container.Content, envelope: container.Envelope, options: "EncodeOptions") -> bool:
    """Tell whether a file has what is asked for already, so that its payload is kept.

    Args:
        content: What the file holds.
        envelope: All of the new file but the payload.
        options: What is asked for; where that is nothing of a codec, every payload will do.
    """
    if not options.asked:
        return True
    if options.codec.name != content.header.codec:
        return False
    if options.target_size is not None:
        return len(content.payload) <= envelope.payload_room(options.target_size)
    return options.asked <= {"codec"} or options.codec.is_met_by(content.payload)
