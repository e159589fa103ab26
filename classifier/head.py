"""Signals and embeddings -> logits and calibrated sufficiency, one number a tier; and what kind of task a prompt is."""

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from classifier.runtime import session

Matrix = NDArray[np.float32]


class OnnxHead:
    """``head.onnx``: standardisation, estimator, calibration and running maximum in one graph.

    The graph takes what ``widths`` names, each (n, width) - ``signals`` and ``embedding`` on the fast path, its ``fast_logits`` and the
    transformer's ``embedding`` on the accurate one -, gives ``logits`` and ``sufficiency`` (n, n_tiers), and shows its calibration
    as the outputs ``calibration_shift`` and ``calibration_slope`` (n_tiers,):
    sufficiency = running maximum over tiers of sigmoid(slope * logit + shift).
    """

    def __init__(self, model: Path) -> None:
        self._session = session(model)
        self.widths: dict[str, int] = {entry.name: entry.shape[1] for entry in self._session.get_inputs()}
        zeros = {name: np.zeros((1, width), np.float32) for name, width in self.widths.items()}
        shift, slope = self._session.run(("calibration_shift", "calibration_slope"), zeros)
        self.calibration_shift: tuple[float, ...] = tuple(shift.tolist())
        self.calibration_slope: tuple[float, ...] = tuple(slope.tolist())

    def run(self, *inputs: Matrix) -> tuple[Matrix, Matrix]:
        """(logits, sufficiency), both (n, n_tiers) float32, of inputs in the order of ``widths``.

        Row by row, since a matrix product over another number of rows may round differently: a batch of many equals
        many batches of one to the last bit.
        """
        logits = np.empty((len(inputs[0]), len(self.calibration_shift)), dtype=np.float32)
        sufficiency = np.empty_like(logits)
        names = tuple(self.widths)
        for row in range(len(logits)):
            feeds = {name: values[row : row + 1] for name, values in zip(names, inputs, strict=True)}
            one_logits, one_sufficiency = self._session.run(("logits", "sufficiency"), feeds)
            logits[row], sufficiency[row] = one_logits[0], one_sufficiency[0]
        return logits, sufficiency


class TaskHead:
    """``task.onnx``: ``signals`` (n, n_signals) and ``embedding`` (n, dim) -> calibrated ``probabilities`` (n, n_tasks).

    The tasks' names stand in the graph's metadata, as a JSON list. ValueError where they do not fit.
    """

    def __init__(self, model: Path) -> None:
        self._session = session(model)
        self.widths: dict[str, int] = {entry.name: entry.shape[1] for entry in self._session.get_inputs()}
        names = json.loads(self._session.get_modelmeta().custom_metadata_map["tasks"])
        (output,) = self._session.get_outputs()
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names) or len(names) != output.shape[1]:
            raise ValueError(f"tasks: found {str(names)[:80]}, expected a list of {output.shape[1]} names")
        self.names: tuple[str, ...] = tuple(names)

    def run(self, signals: Matrix, embedding: Matrix) -> list[tuple[str, float]]:
        """The likeliest task of each row, and its probability."""
        result = []
        for row in range(len(signals)):
            (found,) = self._session.run(("probabilities",), {"signals": signals[row : row + 1], "embedding": embedding[row : row + 1]})
            best = int(found[0].argmax())
            result.append((self.names[best], float(found[0, best])))
        return result
