# SPDX-License-Identifier: MIT
"""Replaying recorded loads."""

from __future__ import annotations

import html
import json
import os
from collections.abc import Callable, Sequence
from typing import Any

from lplb import _lplb
from lplb._arrays import check_bool, check_int, check_number, check_text
from lplb._controller import ControllerOptions
from lplb._cost import CostModel
from lplb._frame import flat, frame_of
from lplb._names import BackendName, SolverName
from lplb._placement import Placement, layers_of
from lplb._progress import line_of


class SimulateReport(dict[str, Any]):
    """The report of `lplb simulate --json` as a dict; `policies` has an entry for each policy.

    `json` and `html` are its texts. `placements` has, by policy, the placement that a rebalance
    right after the last batch would make, as the text of a placement file: what
    `lplb simulate --write-placement` writes.
    """

    def __init__(self, text: str, page: str, placements: dict[str, str]) -> None:
        super().__init__(json.loads(text))
        self.json = text
        self.html = page
        self.placements = placements

    def __repr__(self) -> str:
        means = ", ".join(f"{p['name']} {p['imbalance']['mean']:.3f}" for p in self["policies"])
        return f"SimulateReport({self['trace']['name']}: mean imbalance {means})"

    def _repr_html_(self) -> str:
        """The page, for notebooks: in a frame of its own."""
        style = "width:100%;height:900px;border:0"
        return f'<iframe srcdoc="{html.escape(self.html)}" style="{style}"></iframe>'

    def to_frame(self) -> Any:
        """The figures as a pandas.DataFrame, a row for each policy. ImportError without pandas."""
        return frame_of([{"policy": p["name"], **flat(p)} for p in self["policies"]])

    def placement(self, name: str) -> list[Placement]:
        """The same for one policy, a :class:`Placement` for each layer.

        KeyError if it was not replayed.
        """
        file = json.loads(self.placements[name])
        return layers_of(
            file["physical_to_logical"],
            file["num_ranks"],
            file["num_logical_experts"],
            num_nodes=file.get("num_nodes", 1),
            rank_speed=file.get("rank_speed"),
            rank_alive=file.get("rank_alive"),
        )

    def policy(self, name: str) -> dict[str, Any]:
        """The entry of one policy. KeyError if it was not replayed."""
        for entry in self["policies"]:
            if entry["name"] == name:
                return dict(entry)
        raise KeyError(name)


def _backend(name: str) -> str:
    """`name`, or in place of "auto" what there is."""
    if check_text(name, "backend") != "auto":
        return name
    return "cpu" if _lplb.cuda_info()["missing"] else "cuda"


def _path_of(trace: Any) -> str:
    if not isinstance(trace, (str, os.PathLike)):
        raise TypeError(f"trace: is {trace!r}, expected a path or synthetic:NAME")
    return os.fspath(trace)


def _policies(policies: str | Sequence[str] | None) -> list[str]:
    if policies is None:
        return []
    if isinstance(policies, str):
        policies = policies.split(",")
    if not isinstance(policies, Sequence) or not all(isinstance(p, str) for p in policies):
        raise TypeError(f"policies: is {policies!r}, expected names")
    if not any(policies):
        raise ValueError("policies: is empty, expected at least one, or None")
    return list(policies)


def simulate(
    trace: str | os.PathLike[str],
    *,
    num_ranks: int = 8,
    num_nodes: int = 1,
    num_groups: int = 1,
    redundants: int = 2,
    num_replicas: int | None = None,
    policies: str | Sequence[str] | None = None,
    batch_tokens: int = 0,
    skip_steps: int = 0,
    drop_repeats: bool = False,
    warm_up: int = 0,
    window: int = 8,
    rebalance_every: int = 1,
    controller: ControllerOptions | None = None,
    cost: CostModel | str | os.PathLike[str] | None = None,
    solver: SolverName = "auto",
    num_threads: int = 1,
    expert_bytes: int | None = None,
    copy_target: float = 1.0,
    copy_min_tokens: int = 1,
    copy_domains: int = 1,
    copy_gigabytes_per_s: float | None = None,
    copy_hidden_us: float = 0.0,
    backend: BackendName = "cpu",
    synthetic_num_logical_experts: int | None = None,
    synthetic_num_topk: int | None = None,
    synthetic_num_layers: int | None = None,
    synthetic_num_steps: int | None = None,
    synthetic_num_tokens: int | None = None,
    synthetic_seed: int | None = None,
    progress: Callable[[int, int], object] | bool = False,
) -> SimulateReport:
    """Replays a trace through placement and split policies: the imbalance that each gives.

    Parameters
    ----------
    trace : path or str
        A recorded trace, or "synthetic:NAME".
    num_replicas : int, optional
        All slots of a layer, in place of `redundants`: a multiple of num_ranks, which need not
        divide the experts.
    policies : sequence of str, or names with commas between, optional
        "none"; "eplb", "eplb+lplb", "eplb+stale", and the same with "eplb-spread" and
        "eplb-keep"; "homes+even", "homes+lplb", "homes+stale", and the same with "moving-homes";
        "TOPOLOGY+even", "TOPOLOGY+lplb", "TOPOLOGY+stale"; "file:PATH+even", "file:PATH+lplb",
        "file:PATH+stale". With `cost` also "none", "eplb", "eplb-spread", "eplb-keep", "homes",
        "moving-homes", "TOPOLOGY" and "file:PATH" with "+time". "none", and in place of each
        "+lplb", also with "+dynamic:S": copies for each batch as :func:`replicate` makes them,
        S slots a rank; with `cost` also "+dynamic:S:time". By default none, eplb and eplb+lplb;
        "none" is left out if num_ranks does not divide the experts.
    batch_tokens : int
        Merge or cut steps to batches of this many tokens; 0: as recorded.
    skip_steps : int
        Leave out the first steps of the trace.
    drop_repeats : bool
        Leave out tokens that choose the very same experts in all layers as more than a tenth of all
        tokens. The trace must be a STEM.topk.npy.
    warm_up : int
        Leave the first batches out of all figures; they are replayed and fill the window.
    window : int
        How many past batches a placement is made from.
    rebalance_every : int
        How many batches a placement is used for.
    controller : ControllerOptions, optional
        Replay a controller too, "controller+lplb", which decides after each batch and layer whether
        a rebalance pays, and charge all policies for their moves: `charged`. The window and the
        cost are those of the replay; the policy's name says the split.
    cost : CostModel or path of its file, optional
        What tokens cost. Every policy then has `cost`: what the slowest rank of a layer costs, and
        its gap to the proven bound.
    expert_bytes : int, optional
        Bytes of one expert's weights in one layer, to say how much a rebalance moves, and copies
        for a batch.
    copy_target, copy_min_tokens, copy_domains : float, int, int
        For "+dynamic:S": target, min_tokens and num_domains of :func:`replicate`.
    copy_gigabytes_per_s : float, optional
        What a rank sends and receives, each way, in units of 1e9 bytes: costs then include the time
        of copying. It needs expert_bytes, and a cost in "us".
    copy_hidden_us : float
        Microseconds for which the copies of a layer travel behind other work.
    backend : str
        Where exact splits are solved: "cpu", "cuda", or "auto", which is "cuda" if there is a GPU.
        The figures are equal, but for times.
    synthetic_num_logical_experts, synthetic_num_topk, synthetic_num_layers, synthetic_num_steps, \
synthetic_num_tokens, synthetic_seed : int, optional
        The shape of a trace "synthetic:NAME": by default 256 experts, 8 of them for each token, 1
        layer, 64 steps of 4096 tokens, seed 0.
    progress : callable or bool
        Called a few times a second with (batches done, all batches), or -1 for a number that is not
        known. True: a line on standard error. Ctrl-C, or an exception that it raises, ends the
        replay.
    num_ranks, num_nodes, num_groups, redundants, solver, num_threads :
        The options of `lplb simulate`.

    Returns
    -------
    SimulateReport
        What `lplb simulate --json` writes, and the placements to deploy. The GIL is released during
        the replay.

    Examples
    --------
    >>> import lplb
    >>> report = lplb.simulate("synthetic:W0_balanced", policies=["none"])
    >>> report["policies"][0]["name"]
    'none'
    >>> report = lplb.simulate("synthetic:W0_balanced", cost=lplb.CostModel.weights_only())
    >>> report.policy("none")["cost"]["mean"]
    32.0
    >>> lplb.simulate("synthetic:W1_hot_expert_set").placement("eplb+lplb")[0]
    Placement(256 experts in 272 slots on 8 ranks)
    """
    slots = 0 if num_replicas is None else check_int(num_replicas, "num_replicas", 1)
    if cost is not None and not isinstance(cost, (CostModel, str, os.PathLike)):
        raise TypeError(f"cost: is a {type(cost).__name__}, expected a CostModel or a path")
    path = "" if cost is None or isinstance(cost, CostModel) else os.fspath(cost)
    model = cost if isinstance(cost, CostModel) or cost is None else CostModel.load(path)
    size = 0 if expert_bytes is None else check_int(expert_bytes, "expert_bytes", 1)
    given = {
        "num_logical_experts": synthetic_num_logical_experts,
        "num_topk": synthetic_num_topk,
        "num_layers": synthetic_num_layers,
        "num_steps": synthetic_num_steps,
        "num_tokens": synthetic_num_tokens,
        "seed": synthetic_seed,
    }
    synthetic = {k: check_int(v, f"synthetic_{k}") for k, v in given.items() if v is not None}
    file = _path_of(trace)
    if synthetic and not file.startswith("synthetic:"):
        name = next(iter(synthetic))
        raise ValueError(f"synthetic_{name}: is for synthetic traces, {file} is a file")
    if controller is not None and not isinstance(controller, ControllerOptions):
        raise TypeError(f"controller: is {controller!r}, expected a ControllerOptions")
    if not callable(progress):
        progress = check_bool(progress, "progress")
    text, page, placements = _lplb.simulate(
        file,
        check_int(num_ranks, "num_ranks"),
        check_int(num_nodes, "num_nodes"),
        check_int(num_groups, "num_groups"),
        check_int(redundants, "redundants"),
        slots,
        _policies(policies),
        check_int(batch_tokens, "batch_tokens"),
        check_int(skip_steps, "skip_steps"),
        check_bool(drop_repeats, "drop_repeats"),
        check_int(warm_up, "warm_up"),
        check_int(window, "window"),
        check_int(rebalance_every, "rebalance_every"),
        None if controller is None else controller.native(None),
        None if model is None else model._model,
        path,
        check_text(solver, "solver"),
        check_int(num_threads, "num_threads"),
        size,
        check_number(copy_target, "copy_target"),
        check_int(copy_min_tokens, "copy_min_tokens"),
        check_int(copy_domains, "copy_domains"),
        0.0
        if copy_gigabytes_per_s is None
        else check_number(copy_gigabytes_per_s, "copy_gigabytes_per_s"),
        check_number(copy_hidden_us, "copy_hidden_us"),
        _backend(backend),
        synthetic,
        "lplb.simulate()",
        line_of("batches") if progress is True else progress if callable(progress) else None,
    )
    return SimulateReport(text, page, dict(placements))
