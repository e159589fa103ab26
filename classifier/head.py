"""Signals and embedding -> logits and calibrated sufficiency, one number a tier."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from classifier.runtime import session

Matrix = NDArray[np.float32]


class OnnxHead:
    """``head.onnx``: standardisation, estimator, calibration and running maximum in one graph.

    The graph takes ``signals`` (n, n_signals) and ``embedding`` (n, dim), gives ``logits`` and ``sufficiency``
    (n, n_tiers), and shows its calibration as the outputs ``calibration_shift`` and ``calibration_slope`` (n_tiers,):
    sufficiency = running maximum over tiers of sigmoid(slope * logit + shift).
    """

    def __init__(self, model: Path) -> None:
        self._session = session(model)
        shapes = {entry.name: entry.shape for entry in self._session.get_inputs()}
        self.n_signals: int = shapes["signals"][1]
        self.dim: int = shapes["embedding"][1]
        zeros = {"signals": np.zeros((1, self.n_signals), np.float32), "embedding": np.zeros((1, self.dim), np.float32)}
        shift, slope = self._session.run(("calibration_shift", "calibration_slope"), zeros)
        self.calibration_shift: tuple[float, ...] = tuple(shift.tolist())
        self.calibration_slope: tuple[float, ...] = tuple(slope.tolist())

    def run(self, signals: Matrix, embedding: Matrix) -> tuple[Matrix, Matrix]:
        """(logits, sufficiency), both (n, n_tiers) float32.

        Row by row, since a matrix product over another number of rows may round differently: a batch of many equals
        many batches of one to the last bit.
        """
        logits = np.empty((len(signals), len(self.calibration_shift)), dtype=np.float32)
        sufficiency = np.empty_like(logits)
        for row in range(len(signals)):
            feeds = {"signals": signals[row : row + 1], "embedding": embedding[row : row + 1]}
            one_logits, one_sufficiency = self._session.run(("logits", "sufficiency"), feeds)
            logits[row], sufficiency[row] = one_logits[0], one_sufficiency[0]
        return logits, sufficiency
