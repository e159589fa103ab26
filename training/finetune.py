"""A small transformer learns sufficiency from labels: the only module that imports torch (extra ``encoder``).

The first layers of a sentence encoder, a mean over the last of them, and a linear reading for each basis; all of it learns by
log-loss on soft targets. Rows are batched by length and products are taken in bfloat16: on two cores that is the difference
between minutes and hours.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Matrix = NDArray[np.float64]

BATCH = 32
_SORTED = 50  # batches whose rows are sorted by length together
_RATE, _READING_RATE = 1e-4, 1e-3
_WARM_UP = 0.06  # of all steps
_DROPOUT = 0.1
_DECAY = 0.01
_LIKE_BERT = ("bert", "gelu", 1e-12)  # kind, activation, epsilon of layer normalisation


@dataclass(frozen=True, slots=True)
class Row:
    """What one text teaches: ``targets`` (n_tiers,) in [0, 1], NaN where unknown; ``basis`` 0 by the rubric, 1 measured."""

    ids: list[int]
    targets: Matrix
    weight: float
    basis: int


@dataclass(frozen=True, slots=True)
class Tuned:
    """``weights``: of a BertModel by their names in ``transformers``; ``readings``: (weights (dim, n_tiers), bias (n_tiers,)) by basis."""

    weights: dict[str, Floats]
    readings: dict[int, tuple[Floats, Floats]]
    heads: int = 12  # of attention, in each layer

    def logits(self, vectors: Floats, basis: int) -> Matrix:
        """(n, n_tiers) of (n, dim) vectors."""
        weights, bias = self.readings[basis]
        return np.asarray(vectors @ weights + bias, dtype=np.float64)


def finetune(
    source: Path,
    layers: int,
    rows: Callable[[int], Sequence[Row]],
    epochs: int,
    seed: int,
    advance: Callable[[float], object],
) -> Tuned:
    """Train on ``rows(epoch)`` for each epoch; ``advance`` is called with the share of all work that a step was.

    ``source`` is a folder with a BertModel as ``transformers`` saves it, of which the first ``layers`` are kept.

    Raises:
        ImportError: the extra ``encoder`` is not installed.
        ValueError: the source has fewer layers.
    """
    import torch  # noqa: PLC0415 - heavy, and of an extra
    import transformers  # noqa: PLC0415 - as above

    transformers.utils.logging.set_verbosity_error()  # layers and a pooler that are left out are left out on purpose
    transformers.utils.logging.disable_progress_bar()
    torch.manual_seed(seed)
    random = np.random.default_rng(seed)
    body = transformers.AutoModel.from_pretrained(str(source), add_pooling_layer=False)
    if len(body.encoder.layer) < layers:
        raise ValueError(f"layers: found {layers}, expected at most the {len(body.encoder.layer)} of {source.name}")
    found = (body.config.model_type, body.config.hidden_act, body.config.layer_norm_eps)
    if found != _LIKE_BERT:  # which is what training.bert writes
        raise ValueError(f"{source.name}: found {found}, expected {_LIKE_BERT}")
    body.encoder.layer = body.encoder.layer[:layers]
    first = rows(0)
    if (longest := max(len(row.ids) for row in first)) > body.config.max_position_embeddings:
        raise ValueError(f"found a row of {longest} tokens, expected at most the {body.config.max_position_embeddings} of {source.name}")
    n_tiers = len(first[0].targets)
    readings = torch.nn.ModuleList([torch.nn.Linear(body.config.hidden_size, n_tiers) for _ in range(2)])
    dropout = torch.nn.Dropout(_DROPOUT)
    groups = [{"params": body.parameters(), "lr": _RATE}, {"params": readings.parameters(), "lr": _READING_RATE}]
    optimiser = torch.optim.AdamW(groups, weight_decay=_DECAY, fused=True)
    rates = [group["lr"] for group in optimiser.param_groups]
    body.train()
    total = epochs * len(first) / BATCH
    step = 0
    for epoch in range(epochs):
        taught = rows(epoch) if epoch else first
        for batch in _batches(taught, random):
            progress = min(1.0, step / total)
            for group, rate in zip(optimiser.param_groups, rates, strict=True):
                group["lr"] = rate * max(1e-3, min(1.0, progress / _WARM_UP) * (1 - progress))
            ids, mask, targets, weights, basis = (torch.from_numpy(part) for part in _padded([taught[place] for place in batch]))
            with torch.autocast("cpu", torch.bfloat16):
                hidden = body(input_ids=ids, attention_mask=mask).last_hidden_state.float()
                vector = dropout((hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True))
                logits = torch.where(basis[:, None] > 0, readings[1](vector), readings[0](vector))
            known = ~torch.isnan(targets)
            losses = torch.nn.functional.binary_cross_entropy_with_logits(logits.float(), torch.nan_to_num(targets), reduction="none")
            loss = (losses * known * weights[:, None]).sum() / known.sum().clamp(min=1)
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_([*body.parameters(), *readings.parameters()], 1.0)
            optimiser.step()
            step += 1
            advance(1 / total)
    weights = {name: values.detach().float().numpy() for name, values in body.state_dict().items() if values.is_floating_point()}
    linear = {basis: (one.weight.detach().numpy().T.copy(), one.bias.detach().numpy().copy()) for basis, one in enumerate(readings)}
    return Tuned(weights, linear, body.config.num_attention_heads)


def _batches(rows: Sequence[Row], random: np.random.Generator) -> list[list[int]]:
    """Places of rows, every row once, rows of like length together."""
    order = random.permutation(len(rows)).tolist()
    result: list[list[int]] = []
    for start in range(0, len(order), BATCH * _SORTED):
        alike = sorted(order[start : start + BATCH * _SORTED], key=lambda place: len(rows[place].ids))
        found = [alike[place : place + BATCH] for place in range(0, len(alike), BATCH)]
        result += [found[place] for place in random.permutation(len(found))]
    return result


def _padded(rows: Sequence[Row]) -> tuple[NDArray[np.int64], Floats, Floats, Floats, NDArray[np.int64]]:
    """(ids (n, longest), mask (n, longest), targets (n, n_tiers), weights (n,), basis (n,))."""
    longest = max(len(row.ids) for row in rows)
    ids = np.zeros((len(rows), longest), np.int64)
    mask = np.zeros((len(rows), longest), np.float32)
    for place, row in enumerate(rows):
        ids[place, : len(row.ids)] = row.ids
        mask[place, : len(row.ids)] = 1
    targets = np.array([row.targets for row in rows], np.float32)
    return ids, mask, targets, np.array([row.weight for row in rows], np.float32), np.array([row.basis for row in rows], np.int64)
