"""The embedded model and its data: what `graphopt demo` runs on, without network or extras.

`README.md` beside this file says where the images come from and under which licence.
"""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from graphopt.errors import BadModel

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["DemoData", "load_data", "model_path"]

# The stored pixels are whole numbers 0..16; the network takes them as 0..1.
FULL_SCALE = 16.0


@dataclass(frozen=True, eq=False)
class DemoData:
    """The two halves of the digits, as the model takes them.

    calibration  float32 [n, 1, 8, 8] in 0..1: the half that the network was trained on.
    test         float32 [m, 1, 8, 8] in 0..1: the half that it has never seen.
    labels       int64 [m]: the digit 0..9 of each test image.
    """

    calibration: NDArray[np.float32]
    test: NDArray[np.float32]
    labels: NDArray[np.int64]


def model_path() -> Path:
    """The demo model on disk: input `image` float32 [batch, 1, 8, 8], output `logits` float32 [batch, 10].

    Raises `BadModel` when the installation lacks the file.
    """
    return _shipped("digits_cnn.onnx")


def load_data() -> DemoData:
    """The images and labels that belong to the demo model, about 0.5 MB in memory.

    Raises `BadModel` when the installation lacks the file, or when it is damaged.
    """
    import numpy as np

    path = _shipped("digits.npz")
    try:
        with np.load(path, allow_pickle=False) as stored:
            calibration, test, labels = stored["calibration_x"], stored["test_x"], stored["test_y"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise BadModel(f"The demo data {path} is damaged ({error}): reinstall graphopt.") from error

    def scaled(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        return (pixels.astype(np.float32) / np.float32(FULL_SCALE))[:, np.newaxis]

    return DemoData(scaled(calibration), scaled(test), labels.astype(np.int64))


def _shipped(name: str) -> Path:
    path = Path(str(files(__name__).joinpath(name)))
    if not path.is_file():
        raise BadModel(f"The demo file {path} is missing from this installation: reinstall graphopt.")
    return path
