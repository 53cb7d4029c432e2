# SPDX-License-Identifier: MIT
"""Load balancer for Mixture-of-Experts under expert parallelism.

:class:`Planner` is the fast loop: in microseconds it sends each batch's tokens to replicas so that
the fullest rank has least. :func:`rebalance_experts`, :func:`place_homes` and
:func:`place_on_topology` are the slow loop.
"""

from lplb import topology
from lplb._calibrate import Calibration, CostPoint, calibrate, fit_cost
from lplb._controller import ControllerOptions
from lplb._cost import CostModel
from lplb._dynamic import Copies
from lplb._homes import HomesPlacement, MoveRound, MoveSchedule, place_homes, schedule
from lplb._lplb import Topology, cuda_info, version
from lplb._mover import WeightMover
from lplb._placement import Move, Placement, keep_ranks, keep_slots, layers_of, moves
from lplb._planner import Planner
from lplb._rebalance import place_on_topology, rebalance_experts
from lplb._rebalancer import Rebalancer
from lplb._replica_buffers import Fetched, ReplicaBuffers
from lplb._replicate import CopyCost, Replication, replicate
from lplb._results import ExchangeStats, PlannerStats, Quotas
from lplb._shared import SharedPlanner
from lplb._simulate import SimulateReport, simulate
from lplb._split import Split, count, imbalance, map_tokens, solve, split_evenly
from lplb._split_batch import SplitBatch, solve_batch
from lplb._sweep import SweepResult, sweep

__version__ = version()

__all__ = [
    "Calibration",
    "ControllerOptions",
    "Copies",
    "CopyCost",
    "CostModel",
    "CostPoint",
    "ExchangeStats",
    "Fetched",
    "HomesPlacement",
    "Move",
    "MoveRound",
    "MoveSchedule",
    "Placement",
    "Planner",
    "PlannerStats",
    "Quotas",
    "Rebalancer",
    "ReplicaBuffers",
    "Replication",
    "SharedPlanner",
    "SimulateReport",
    "Split",
    "SplitBatch",
    "SweepResult",
    "Topology",
    "WeightMover",
    "__version__",
    "calibrate",
    "count",
    "cuda_info",
    "fit_cost",
    "imbalance",
    "keep_ranks",
    "keep_slots",
    "layers_of",
    "map_tokens",
    "moves",
    "place_homes",
    "place_on_topology",
    "rebalance_experts",
    "replicate",
    "schedule",
    "simulate",
    "solve",
    "solve_batch",
    "split_evenly",
    "sweep",
    "topology",
]
