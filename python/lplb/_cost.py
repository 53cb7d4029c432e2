# SPDX-License-Identifier: MIT
"""What a rank's experts cost, such as their time."""

from __future__ import annotations

import os
import pathlib
import tempfile
from collections.abc import Sequence
from typing import Any

from lplb import _lplb
from lplb._arrays import check_int, describe


class CostModel:
    """A table of what the tokens of one expert cost on a rank.

    A rank's cost is the sum over the experts that have tokens there, plus `rank` once, divided by
    the rank's speed. n tokens of an expert cost `cost[k]` for the least k with n <= tokens[k];
    beyond the last step, then_cost more for each begun `then_every` tokens.

    Parameters
    ----------
    tokens : sequence of int
        The ends of the steps, ascending, >= 1.
    cost : sequence of float, of the same length
        What each step costs, > 0, never less than the step before.
    then_every : int
        Tokens of a step beyond the last one, >= 1.
    then_cost : float
        What each such step adds, >= 0.
    rank : float
        What a rank with any token costs in addition, >= 0.
    unit : str
        The unit of all costs, such as "us". Inside, costs are whole thousandths of it.

    Raises
    ------
    ValueError
        If a number is out of its range; the message names the field.

    Examples
    --------
    >>> import lplb
    >>> model = lplb.CostModel([128, 256], [31.0, 42.1], then_every=256, then_cost=34.3, rank=32.1)
    >>> model.expert_cost(1), model.expert_cost(129), model.expert_cost(257), model.rank_cost()
    (31.0, 42.1, 76.4, 32.1)
    """

    def __init__(
        self,
        tokens: Sequence[int],
        cost: Sequence[float],
        *,
        then_every: int,
        then_cost: float,
        rank: float = 0.0,
        unit: str = "us",
    ) -> None:
        self._model = _lplb.CostModel(
            unit,
            float(rank),
            [check_int(n, f"tokens[{i}]") for i, n in enumerate(tokens)],
            [float(c) for c in cost],
            check_int(then_every, "then_every"),
            float(then_cost),
        )

    @classmethod
    def _of(cls, model: _lplb.CostModel) -> CostModel:
        self = cls.__new__(cls)
        self._model = model
        return self

    @classmethod
    def by_rank(cls, models: Sequence[CostModel]) -> CostModel:
        """One table for each rank, in the unit of the first model. Each model has one table."""
        if not models:
            raise ValueError("models: is empty, expected a model for each rank")
        return cls._of(_lplb.cost_by_rank([model._model for model in models]))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> CostModel:
        """Reads a file in the project's format. OSError if it does not hold a cost model."""
        return cls._of(_lplb.load_cost_model(os.fspath(path)))

    @classmethod
    def weights_only(cls) -> CostModel:
        """Each expert with tokens costs 1, whatever their number: for small batches."""
        return cls._of(_lplb.weights_only_model())

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the file that :meth:`load` reads. OSError if that fails."""
        _lplb.save_cost_model(self._model, os.fspath(path))

    def __reduce__(self) -> tuple[Any, ...]:
        """A model is pickled as the text of its file."""
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder, "cost.json")
            self.save(path)
            return _from_text, (path.read_text(encoding="utf-8"),)

    @property
    def unit(self) -> str:
        """The unit of all costs."""
        return self._model.unit

    @property
    def num_tables(self) -> int:
        """1 if all ranks have the same table, otherwise the number of ranks."""
        return self._model.num_tables

    def expert_cost(self, num_tokens: int, *, rank: int = 0, speed: float = 1.0) -> float:
        """What the tokens of one expert cost on `rank`, if its speed is `speed`."""
        tokens = check_int(num_tokens, "num_tokens", 0)
        return self._model.expert_cost(check_int(rank, "rank", 0), tokens, float(speed))

    def rank_cost(self, *, rank: int = 0, speed: float = 1.0) -> float:
        """What `rank` costs in addition if it has any token."""
        return self._model.rank_cost(check_int(rank, "rank", 0), float(speed))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, CostModel) and self._model.equals(other._model)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"CostModel(unit={self.unit!r}, num_tables={self.num_tables})"


def _from_text(text: str) -> CostModel:
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "cost.json")
        path.write_text(text, encoding="utf-8")
        return CostModel.load(path)


def native(cost: CostModel | None) -> _lplb.CostModel | None:
    """The model that C++ takes. Raises TypeError if `cost` is neither a CostModel nor None."""
    if cost is None:
        return None
    if not isinstance(cost, CostModel):
        raise TypeError(f"cost: is {describe(cost)}, expected an lplb.CostModel")
    return cost._model
