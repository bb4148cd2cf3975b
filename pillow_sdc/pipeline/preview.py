"""A quarter or an eighth of the picture straight from its latents, by a fixed linear map and without any network.

A latent and its eight neighbours are nearly a linear function of the mean colours of the quarters of the 8×8 pixels
that it stands for. The map was fitted by least squares (``training/fit_preview.py``); on held-out photographs it is
21.8 dB from the means of quarters, and 23.9 dB from those of whole squares.
"""

import numpy as np
from numpy.typing import NDArray

from ..format import alpha as alpha_plane
from ..format.container import PIXELS_PER_LATENT
from .decoding import StoredImage
from .pixels import samples_of, with_alpha

REACH = 1
"""How far the map looks around a latent."""

SIDE = 2
"""Pixels that a latent becomes in each direction."""

# fmt: off
WEIGHTS = np.array(
    [
        [0.0367, 0.0113, 0.0083, 0.0240, 0.0034, 0.0026, 0.0030, -0.0186, -0.0190, 0.0084, -0.0098, -0.0097],
        [0.1137, 0.0940, 0.0853, 0.0828, 0.0612, 0.0534, 0.0211, 0.0056, 0.0048, 0.0041, -0.0129, -0.0137],
        [0.0009, -0.0084, -0.0011, 0.0389, 0.0261, 0.0302, -0.0126, -0.0215, -0.0132, -0.0002, -0.0112, -0.0039],
        [0.0393, 0.0216, 0.0227, 0.0168, 0.0022, 0.0047, 0.0758, 0.0552, 0.0522, 0.0288, 0.0128, 0.0135],
        [0.1620, 0.1521, 0.1439, 0.1122, 0.1006, 0.0955, 0.2571, 0.2437, 0.2278, 0.2017, 0.1862, 0.1731],
        [-0.0010, -0.0047, -0.0003, 0.0700, 0.0637, 0.0636, 0.0045, 0.0003, 0.0050, 0.0988, 0.0911, 0.0892],
        [0.0049, -0.0033, 0.0011, 0.0050, -0.0022, 0.0013, 0.0068, -0.0037, 0.0011, 0.0010, -0.0078, -0.0037],
        [0.0163, 0.0129, 0.0155, 0.0078, 0.0042, 0.0075, 0.0417, 0.0366, 0.0373, 0.0221, 0.0163, 0.0185],
        [-0.0029, -0.0056, -0.0014, 0.0046, 0.0016, 0.0061, -0.0077, -0.0102, -0.0063, 0.0168, 0.0133, 0.0167],
        [0.0141, 0.0302, 0.0004, -0.0059, 0.0074, -0.0187, 0.0082, 0.0239, -0.0004, -0.0048, 0.0088, -0.0128],
        [0.0087, 0.0262, -0.0009, 0.0183, 0.0343, 0.0055, 0.0047, 0.0186, -0.0029, 0.0195, 0.0331, 0.0100],
        [-0.0078, 0.0075, -0.0132, 0.0013, 0.0202, -0.0039, -0.0018, 0.0108, -0.0068, -0.0008, 0.0143, -0.0052],
        [0.1074, 0.1272, 0.0911, 0.0013, 0.0173, -0.0083, 0.0424, 0.0608, 0.0270, -0.0118, 0.0031, -0.0236],
        [0.1351, 0.1552, 0.1116, 0.2026, 0.2215, 0.1747, 0.0538, 0.0744, 0.0373, 0.0753, 0.0937, 0.0549],
        [-0.0015, 0.0163, -0.0101, 0.0399, 0.0616, 0.0276, -0.0011, 0.0168, -0.0088, 0.0259, 0.0481, 0.0165],
        [-0.0066, 0.0073, -0.0130, -0.0152, -0.0027, -0.0195, 0.0431, 0.0589, 0.0306, -0.0051, 0.0081, -0.0131],
        [-0.0198, -0.0082, -0.0323, -0.0079, 0.0040, -0.0202, 0.0608, 0.0760, 0.0401, 0.0964, 0.1114, 0.0745],
        [-0.0065, 0.0047, -0.0182, -0.0080, 0.0050, -0.0205, 0.0010, 0.0148, -0.0122, 0.0187, 0.0354, 0.0031],
        [-0.0391, 0.0164, 0.0414, -0.0321, 0.0127, 0.0312, -0.0221, 0.0205, 0.0379, -0.0318, 0.0044, 0.0183],
        [-0.0019, 0.0493, 0.0602, -0.0420, 0.0096, 0.0268, -0.0227, 0.0116, 0.0194, -0.0098, 0.0250, 0.0341],
        [-0.0361, 0.0080, 0.0123, -0.0054, 0.0495, 0.0545, -0.0262, 0.0073, 0.0096, -0.0263, 0.0137, 0.0180],
        [-0.0555, 0.0004, 0.0114, -0.0181, 0.0235, 0.0299, -0.0650, -0.0080, 0.0085, -0.0176, 0.0249, 0.0338],
        [0.0548, 0.1118, 0.1030, -0.0453, 0.0121, 0.0146, 0.0508, 0.1093, 0.1064, -0.0834, -0.0249, -0.0146],
        [-0.0529, -0.0007, -0.0034, -0.0007, 0.0639, 0.0563, -0.0357, 0.0148, 0.0116, 0.0378, 0.1018, 0.0946],
        [-0.0242, 0.0119, 0.0168, -0.0218, 0.0086, 0.0125, -0.0386, 0.0108, 0.0184, -0.0205, 0.0188, 0.0245],
        [-0.0310, 0.0060, 0.0071, -0.0199, 0.0158, 0.0174, -0.0108, 0.0414, 0.0403, -0.0322, 0.0189, 0.0218],
        [-0.0307, 0.0151, 0.0172, -0.0327, 0.0192, 0.0207, -0.0499, 0.0062, 0.0097, -0.0384, 0.0272, 0.0281],
        [0.0025, -0.0093, -0.0756, 0.0110, 0.0010, -0.0563, 0.0125, 0.0070, -0.0452, 0.0146, 0.0089, -0.0369],
        [-0.0476, -0.0553, -0.1155, -0.0416, -0.0504, -0.1144, 0.0007, -0.0006, -0.0495, 0.0048, 0.0033, -0.0478],
        [0.0126, 0.0062, -0.0388, -0.0094, -0.0186, -0.0709, 0.0161, 0.0134, -0.0220, 0.0168, 0.0133, -0.0284],
        [0.0130, 0.0028, -0.0517, -0.0094, -0.0143, -0.0593, -0.0229, -0.0345, -0.0944, -0.0163, -0.0233, -0.0734],
        [-0.2296, -0.2362, -0.2793, -0.1334, -0.1422, -0.1943, -0.2022, -0.2095, -0.2598, -0.1618, -0.1710, -0.2278],
        [0.0142, 0.0056, -0.0384, -0.0587, -0.0709, -0.1161, 0.0075, -0.0008, -0.0454, -0.0576, -0.0701, -0.1183],
        [0.0088, 0.0055, -0.0258, 0.0080, 0.0071, -0.0191, 0.0134, 0.0037, -0.0373, -0.0004, -0.0058, -0.0395],
        [0.0101, 0.0083, -0.0264, 0.0008, -0.0003, -0.0346, -0.0526, -0.0600, -0.1003, -0.0209, -0.0289, -0.0721],
        [0.0073, -0.0038, -0.0328, 0.0183, 0.0054, -0.0278, 0.0219, 0.0075, -0.0300, 0.0075, -0.0098, -0.0505],
        [-0.0553, -0.1145, -0.1944, -0.0539, -0.1125, -0.1929, -0.0583, -0.1170, -0.1976, -0.0562, -0.1151, -0.1954],
    ],
    np.float32,
)
# fmt: on
"""From SD-scaled latents, by channel, row and column of the window, and a constant, to red, green and blue of the
quarters at the upper left, upper right, lower left and lower right."""


def preview_of(stored: StoredImage, scale: int = PIXELS_PER_LATENT) -> NDArray[np.uint8]:
    """Return the samples of a file's picture, ``scale`` (4 or 8) times reduced in width and height."""
    header = stored.header
    width, height = (-(-length // scale) for length in header.size)
    samples = np.empty((height, width, len(header.mode)), np.uint8)
    colour = samples_of(preview(stored.quantised.latents, scale)[:, :height, :width], header.mode)
    samples[:, :, : colour.shape[2]] = colour
    return with_alpha(samples, None if stored.alpha is None else alpha_plane.reduce(stored.alpha, scale))


def preview(latents: NDArray[np.float32], scale: int) -> NDArray[np.float32]:
    """Return the picture, ``scale`` times reduced in width and height, that latents stand for.

    Args:
        latents: SD-scaled, ``(4, h, w)``.
        scale: 8 or 4.

    Returns:
        Pixels, about in [−1, 1]: ``(3, h, w)``, or ``(3, 2h, 2w)`` for a scale of 4.
    """
    side = PIXELS_PER_LATENT // scale
    weights = WEIGHTS.reshape(-1, SIDE, SIDE, 3)
    if side < SIDE:
        weights = weights.mean((1, 2), keepdims=True)  # which are the weights of the mean of the quarters
    _, rows, columns = latents.shape
    window = 2 * REACH + 1
    by_place = weights[:-1].reshape(4, window, window, -1)
    padded = np.pad(latents, ((0, 0), (REACH, REACH), (REACH, REACH)), mode="edge")
    pixels = np.empty((by_place.shape[-1], rows, columns), np.float32)
    pixels[:] = weights[-1].reshape(-1, 1, 1)
    for y in range(window):
        for x in range(window):
            pixels += np.tensordot(by_place[:, y, x], padded[:, y : y + rows, x : x + columns], axes=(0, 0))
    quarters = pixels.reshape(side, side, 3, rows, columns)
    return quarters.transpose(2, 3, 0, 4, 1).reshape(3, rows * side, columns * side)
