"""How far colours look apart, to full and to colour-blind eyes."""

import numpy as np
from numpy.typing import ArrayLike

#: Machado, Oliveira and Fernandes (2009), severity 1.0, on linear RGB
VISION = {
    "full": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}
_TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


def linear_rgb(rgb: ArrayLike) -> np.ndarray:
    """Intensities of light of sRGB colours (..., 3)."""
    rgb = np.asarray(rgb, dtype=float)
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


def contrast_with_white(rgb: ArrayLike) -> np.ndarray:
    """Contrast of text on white (WCAG 2): at least 4.5 for text of any size."""
    return 1.05 / (linear_rgb(rgb) @ _TO_XYZ[1] + 0.05)


def lab_seen(rgb: ArrayLike, vision: str) -> np.ndarray:
    """sRGB colours (..., 3) in CIE L*a*b*, as eyes of some kind see them."""
    seen = np.clip(linear_rgb(rgb) @ np.transpose(VISION[vision]), 0, 1)
    xyz = seen @ _TO_XYZ.T / _TO_XYZ.sum(1)
    x, y, z = np.moveaxis(np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116), -1, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


def ciede2000(one: ArrayLike, other: ArrayLike) -> np.ndarray:
    """Difference of colours in CIE L*a*b* (..., 3): 1 can just be noticed. Sharma, Wu and Dalal (2005)."""
    (L1, a1, b1), (L2, a2, b2) = (np.moveaxis(np.asarray(color, dtype=float), -1, 0) for color in (one, other))

    def saturation(chroma):
        return np.sqrt(chroma**7 / (chroma**7 + 25.0**7))

    stretch = 1 + 0.5 * (1 - saturation((np.hypot(a1, b1) + np.hypot(a2, b2)) / 2))
    a1, a2 = stretch * a1, stretch * a2
    C1, C2 = np.hypot(a1, b1), np.hypot(a2, b2)
    h1, h2 = (np.degrees(np.arctan2(b, a)) % 360 for a, b in ((a1, b1), (a2, b2)))
    is_grey = C1 * C2 == 0
    turn = np.where(is_grey, 0, (h2 - h1 + 180) % 360 - 180)
    dL, dC, dH = L2 - L1, C2 - C1, 2 * np.sqrt(C1 * C2) * np.sin(np.radians(turn / 2))
    L, C = (L1 + L2) / 2, (C1 + C2) / 2
    h = np.where(is_grey, h1 + h2, (h1 + turn / 2) % 360)
    T = (
        1
        - 0.17 * np.cos(np.radians(h - 30))
        + 0.24 * np.cos(np.radians(2 * h))
        + 0.32 * np.cos(np.radians(3 * h + 6))
        - 0.20 * np.cos(np.radians(4 * h - 63))
    )
    S_L = 1 + 0.015 * (L - 50) ** 2 / np.sqrt(20 + (L - 50) ** 2)
    S_C, S_H = 1 + 0.045 * C, 1 + 0.015 * C * T
    rotation = -np.sin(np.radians(60 * np.exp(-(((h - 275) / 25) ** 2)))) * 2 * saturation(C)
    lightness, chroma, hue = dL / S_L, dC / S_C, dH / S_H
    return np.sqrt(lightness**2 + chroma**2 + hue**2 + rotation * chroma * hue)
