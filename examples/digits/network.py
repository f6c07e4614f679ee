"""A small convolutional network for 8x8 digits, written the way such code is usually written.

Nothing in here is arranged for an optimizer, except for one thing: `Dropout` below. The leftovers
in the exported graph come from ordinary habits: normalizing inside `forward`, `bias=False` before a
batch normalization, dropout everywhere, a second head that only training needs.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

CLASSES = 10


class Dropout(nn.Dropout):
    """Dropout through `native_dropout`, the operator that `nn.Dropout` itself runs while training.

    `nn.Dropout` in evaluation mode leaves a plain copy in the traced graph, which the exporter
    writes as `Identity`. This one stays visible as dropout, and the exporter writes it as ONNX
    `Dropout` with `training_mode` false. The network uses both, so both leftovers appear.
    """

    def forward(self, x: Tensor) -> Tensor:
        return torch.native_dropout(x, self.p, self.training)[0]


class Residual(nn.Module):
    """Convolution, batch normalization and dropout, added to what came in."""

    def __init__(self, channels: int, drop: float) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(channels)
        self.drop = nn.Dropout(drop)
        self.skip = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.drop(self.norm(self.conv(x))) + self.skip(x))


class DigitsNet(nn.Module):
    """Image [n, 1, 8, 8] in 0..1 to two sets of logits [n, 10]: the answer and the auxiliary head's.

    `mean` and `std` are of the training images (scalars). The auxiliary head classifies from the
    features of the first block; its loss helps that block during training (deep supervision), and
    nobody needs its answer afterwards.
    """

    def __init__(self, mean: float, std: float) -> None:
        super().__init__()
        self.mean = mean
        self.std = std
        self.stem = nn.Sequential(nn.Conv2d(1, 24, 3, padding=1), nn.BatchNorm2d(24), nn.ReLU())
        self.early = Residual(24, drop=0.1)
        self.widen = nn.Sequential(
            nn.Conv2d(24, 48, 3, padding=1, bias=False), nn.BatchNorm2d(48), nn.ReLU(), nn.MaxPool2d(2)
        )
        self.late = Residual(48, drop=0.1)
        self.head = nn.Sequential(
            Dropout(0.25), nn.Linear(48 * 4 * 4, 48), nn.ReLU(), Dropout(0.25), nn.Linear(48, CLASSES)
        )
        self.auxiliary = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), Dropout(0.1), nn.Linear(24, CLASSES))

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        x = (image - self.mean) / self.std
        early = self.early(self.stem(x))
        features = self.late(self.widen(early))
        flat = features.view(features.size(0), -1)
        return self.head(flat), self.auxiliary(early)
