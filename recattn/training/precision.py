"""Training with products of bf16 numbers."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from pytorch_lightning.plugins.precision import MixedPrecision

Precision = Literal["fp32", "bf16"]


class Bf16Training(MixedPrecision):
    """Autocast to bf16 in training alone: weights, sums and the optimiser are fp32, as is what validation measures.

    bf16 has 8 significant bits: among thousands of logits that are rounded to them many are equal, and ties count
    against the target.
    """

    def __init__(self) -> None:
        super().__init__("bf16-mixed", "cuda" if torch.cuda.is_available() else "cpu")

    @contextmanager
    def val_step_context(self) -> Iterator[None]:
        yield
