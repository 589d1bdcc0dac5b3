"""From a camera's picture to what the model sees: a crop, then the mean over whole blocks of pixels.

Whole blocks only: there is nothing to interpolate, so training and deployment agree to the bit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class View:
    """What of one camera's picture the model sees.

    `crop`: (top, left, height, width) in pixels of the source picture; `size`: (height, width) of the result, a whole
    fraction of the crop.
    """

    crop: tuple[int, int, int, int]
    size: tuple[int, int]

    def __post_init__(self) -> None:
        _, _, height, width = self.crop
        factor = height // self.size[0]
        if factor < 1 or (self.size[0] * factor, self.size[1] * factor) != (height, width):
            raise ValueError(f"a view of {self.size} pixels is no whole fraction of the crop {self.crop}")

    @property
    def factor(self) -> int:
        """Source pixels per pixel, along each side."""
        return self.crop[2] // self.size[0]

    def of(self, picture: Pixels) -> Pixels:
        """(h, w, 3) of a source picture (H, W, 3) uint8.

        Raises:
            ValueError: the picture is not uint8 RGB or smaller than the crop.
        """
        top, left, height, width = self.crop
        if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
            raise ValueError(f"a picture is {picture.dtype} {picture.shape}, expected uint8 (height, width, 3)")
        if picture.shape[0] < top + height or picture.shape[1] < left + width:
            raise ValueError(f"a picture has {picture.shape[:2]} pixels, too few for the crop {self.crop}")
        part = picture[top : top + height, left : left + width]
        f, (h, w) = self.factor, self.size
        if f == 1:
            return np.ascontiguousarray(part)
        total = part.reshape(h, f, w, f, 3).sum(axis=(1, 3), dtype=np.uint32)
        mean: Pixels = ((total + f * f // 2) // (f * f)).astype(np.uint8)
        return mean

    def normalised(self, u: NDArray[np.float64], v: NDArray[np.float64]) -> NDArray[np.float64]:
        """(..., 2) source pixel coordinates (u right, v down) as fractions of this view; outside [0, 1] not in it."""
        top, left, height, width = self.crop
        return np.stack([(u - left) / width, (v - top) / height], axis=-1)


SOURCE_SIZE = (224, 224)
"""Height and width of the cameras' pictures that a policy takes."""

TINY_VIEWS: Mapping[str, View] = {
    # The head camera's upper part shows the far floor.
    "head": View((64, 0, 160, 224), (160, 224)),
    "left_wrist": View((16, 16, 192, 192), (64, 64)),
    "right_wrist": View((16, 16, 192, 192), (64, 64)),
}
FULL_VIEWS: Mapping[str, View] = {name: View((0, 0, 224, 224), (224, 224)) for name in TINY_VIEWS}
VIEWS: Mapping[str, Mapping[str, View]] = {"tiny": TINY_VIEWS, "full": FULL_VIEWS}
"""Views by the size of the model that they are for."""
