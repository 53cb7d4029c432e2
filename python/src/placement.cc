// SPDX-License-Identifier: MIT
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <optional>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>

#include "bindings.h"

namespace lplb::python {
namespace {

using Maps = nb::typed<nb::tuple, ArrayOut<Index>, ArrayOut<Index>, ArrayOut<Index>>;

nb::tuple to_tuple(ExpertMaps maps) {
  const auto layers = static_cast<std::size_t>(maps.num_layers);
  const auto physical = static_cast<std::size_t>(maps.num_physical);
  const auto logical = static_cast<std::size_t>(maps.num_logical);
  const auto replicas = static_cast<std::size_t>(maps.max_replicas);
  return nb::make_tuple(to_array(std::move(maps.physical_to_logical), {layers, physical}),
                        to_array(std::move(maps.logical_to_physical), {layers, logical, replicas}),
                        to_array(std::move(maps.replica_count), {layers, logical}));
}

/// Calls `body`. An error about an argument that Python calls by another name is raised with that.
template <class Body>
auto renamed(std::initializer_list<std::pair<std::string_view, const char*>> names, Body body) {
  try {
    return body();
  } catch (const ArgumentError& e) {
    const std::string problem = std::string(e.what()).substr(e.argument().size() + 2);
    for (const auto& [name, ours] : names) {
      if (e.argument() == name) throw ArgumentError(ours, problem);
    }
    throw;
  }
}

const char* kind_name(MoveKind kind) {
  switch (kind) {
    case MoveKind::kSameRank:
      return "same rank";
    case MoveKind::kSameNode:
      return "same node";
    case MoveKind::kOtherNode:
      return "other node";
    default:
      return "lost";
  }
}

void construct(Placement* self, const ArrayIn<Index>& physical_to_logical, Index num_ranks,
               Index num_logical_experts, Index num_nodes, const ArrayIn<double>& rank_speed,
               const ArrayIn<std::uint8_t>& rank_alive) {
  PlacementOptions options;
  options.num_nodes = num_nodes;
  options.rank_speed.assign(rank_speed.data(), rank_speed.data() + rank_speed.size());
  options.rank_alive.assign(rank_alive.data(), rank_alive.data() + rank_alive.size());
  Placement made =
      make_placement(num_ranks, num_logical_experts, span_of(physical_to_logical), options);
  new (self) Placement(std::move(made));
}

RebalanceOptions options_of(int num_threads, const ArrayIn<double>& rank_speed,
                            const ArrayIn<std::uint8_t>& rank_alive) {
  RebalanceOptions options;
  options.num_threads = num_threads;
  options.rank_speed.assign(rank_speed.data(), rank_speed.data() + rank_speed.size());
  options.rank_alive.assign(rank_alive.data(), rank_alive.data() + rank_alive.size());
  return options;
}

MoveKind kind_of(const std::string& name) {
  for (const MoveKind kind :
       {MoveKind::kSameRank, MoveKind::kSameNode, MoveKind::kOtherNode, MoveKind::kLost}) {
    if (name == kind_name(kind)) return kind;
  }
  throw ArgumentError("moves", "\"" + name + "\" is no kind of move");
}

using Schedule = nb::typed<nb::tuple, std::vector<Index>,
                           std::vector<nb::typed<nb::tuple, std::string, std::vector<Index>>>,
                           std::vector<Index>>;

nb::tuple schedule_of(const std::vector<std::tuple<Index, Index, Index, std::string>>& moves,
                      const Placement& old, const Placement& next) {
  std::vector<Move> list;
  for (const auto& [logical, source, target, kind] : moves) {
    list.push_back({logical, source, target, kind_of(kind)});
  }
  const MoveSchedule made = schedule(list, old, next);
  nb::list rounds;
  for (const MoveRound& round : made.rounds) {
    rounds.append(nb::make_tuple(kind_name(round.kind), round.moves));
  }
  return nb::make_tuple(made.same_rank, rounds, made.lost);
}

using Homes = nb::typed<nb::tuple, Maps, ArrayOut<double>, ArrayOut<double>, ArrayOut<double>,
                        ArrayOut<Index>, ArrayOut<std::int64_t>>;

Homes homes_of(const ArrayIn<double>& loads, Index num_batches, Index num_layers, Index num_logical,
               Index num_replicas, Index num_ranks, const std::vector<Placement>& old,
               std::int64_t max_trials, std::int64_t max_moves, std::int64_t max_bytes,
               std::int64_t expert_bytes, double max_seconds, double min_gain, bool move_homes,
               bool restart, bool batches_only, Index dynamic_slots, Index num_domains,
               const ArrayIn<Index>& pinned, int num_threads, const ArrayIn<double>& rank_speed,
               const ArrayIn<std::uint8_t>& rank_alive, const std::string& backend) {
  const RebalanceOptions ranks = options_of(num_threads, rank_speed, rank_alive);
  HomesOptions options{.num_threads = num_threads,
                       .max_trials = max_trials,
                       .max_moves = max_moves,
                       .max_bytes = max_bytes,
                       .expert_bytes = expert_bytes,
                       .max_seconds = max_seconds,
                       .min_gain = min_gain,
                       .move_homes = move_homes,
                       .restart = restart,
                       .batches_only = batches_only,
                       .dynamic_slots = dynamic_slots,
                       .num_domains = num_domains,
                       .backend = parse_backend(backend),
                       .rank_speed = ranks.rank_speed,
                       .rank_alive = ranks.rank_alive};
  for (std::size_t i = 0; i < pinned.size(); i += 2) {
    options.pinned.push_back({pinned.data()[i], pinned.data()[i + 1]});
  }
  HomesPlacement placed = renamed({{"from", "old"}}, [&] {
    return without_gil([&] {
      return place_homes(span_of(loads), num_batches, num_layers, num_logical, num_replicas,
                         num_ranks, old, options);
    });
  });
  return nb::make_tuple(Maps(to_tuple(std::move(placed.maps))), to_array(std::move(placed.judged)),
                        to_array(std::move(placed.judged_before)),
                        to_array(std::move(placed.imbalance)), to_array(std::move(placed.moves)),
                        to_array(std::move(placed.trials)));
}

}  // namespace

void bind_placement(nb::module_& m) {
  nb::class_<Placement>(m, "Placement")
      .def("__init__", &construct, "physical_to_logical"_a, "num_ranks"_a, "num_logical_experts"_a,
           "num_nodes"_a, "rank_speed"_a, "rank_alive"_a)
      .def_ro("num_ranks", &Placement::num_ranks)
      .def_ro("num_nodes", &Placement::num_nodes)
      .def_ro("num_logical_experts", &Placement::num_logical_experts)
      .def_ro("max_replicas", &Placement::max_replicas)
      .def_prop_ro("num_physical_experts", &Placement::num_physical)
      .def_prop_ro("slots_per_rank", &Placement::slots_per_rank)
      .def_prop_ro(
          "physical_to_logical", [](const Placement& p) { return to_array(p.physical_to_logical); },
          nb::rv_policy::automatic)
      .def_prop_ro(
          "logical_to_physical",
          [](const Placement& p) {
            return to_array(p.logical_to_physical, {static_cast<std::size_t>(p.num_logical_experts),
                                                    static_cast<std::size_t>(p.max_replicas)});
          },
          nb::rv_policy::automatic)
      .def_prop_ro(
          "replica_count", [](const Placement& p) { return to_array(p.replica_count); },
          nb::rv_policy::automatic)
      .def_prop_ro(
          "rank_speed", [](const Placement& p) { return to_array(p.rank_speed); },
          nb::rv_policy::automatic)
      .def_prop_ro(
          "rank_alive",
          [](const Placement& p) {
            return to_array(std::vector<std::uint8_t>(p.rank_alive.begin(), p.rank_alive.end()));
          },
          nb::rv_policy::automatic)
      .def("redundancy_mapping",
           [](const Placement& p) {
             const auto ranks = static_cast<std::size_t>(p.num_ranks);
             std::vector<std::int32_t> mapping = redundancy_mapping(p);
             const std::size_t columns = mapping.size() / ranks;
             return to_array(std::move(mapping), {ranks, columns});
           })
      .def_prop_ro("packed_size", [](const Placement& p) { return PackedLayout(p).size(); })
      .def_prop_ro(
          "fingerprint", [](const Placement& p) { return PackedLayout(p).fingerprint; },
          nb::rv_policy::automatic)
      .def(
          "pack",
          [](const Placement& p, const ArrayIn<Load>& counts, bool each) {
            const PackedLayout layout(p, each ? Singles::kEach : Singles::kSummed);
            std::vector<Load> packed(layout.size());
            layout.pack(span_of(counts), packed);
            return to_array(std::move(packed));
          },
          "counts"_a, "each"_a = false)
      .def(
          "__eq__", [](const Placement& a, const Placement& b) { return a == b; },
          nb::is_operator(), nb::sig("def __eq__(self, arg: object, /) -> bool"))
      .def("__hash__", [](const Placement& p) {
        return static_cast<Py_hash_t>(PackedLayout(p).fingerprint >> 2);
      });

  m.def(
      "rebalance_experts",
      [](const ArrayIn<double>& load, Index num_layers, Index num_logical, Index num_replicas,
         Index num_groups, Index num_nodes, Index num_ranks, int num_threads, bool spread,
         const ArrayIn<double>& rank_speed, const ArrayIn<std::uint8_t>& rank_alive) -> Maps {
        RebalanceOptions options = options_of(num_threads, rank_speed, rank_alive);
        options.spread = spread;
        return to_tuple(renamed({{"load", "weight"}, {"num_ranks", "num_gpus"}}, [&] {
          return without_gil([&] {
            return rebalance_experts(span_of(load), num_layers, num_logical, num_replicas,
                                     num_groups, num_nodes, num_ranks, options);
          });
        }));
      },
      "load"_a, "num_layers"_a, "num_logical"_a, "num_replicas"_a, "num_groups"_a, "num_nodes"_a,
      "num_ranks"_a, "num_threads"_a, "spread"_a, "rank_speed"_a, "rank_alive"_a);
  m.def(
      "place_on_topology",
      [](const ArrayIn<double>& load, Index num_layers, Index num_logical, const Topology& topology,
         Index redundants, Index num_ranks, Index num_nodes, int num_threads,
         const ArrayIn<double>& rank_speed, const ArrayIn<std::uint8_t>& rank_alive) -> Maps {
        const RebalanceOptions options = options_of(num_threads, rank_speed, rank_alive);
        return to_tuple(renamed({{"load", "weight"}}, [&] {
          return without_gil([&] {
            return place_on_topology(span_of(load), num_layers, num_logical, topology, redundants,
                                     num_ranks, num_nodes, options);
          });
        }));
      },
      "load"_a, "num_layers"_a, "num_logical"_a, "topology"_a, "redundants"_a, "num_ranks"_a,
      "num_nodes"_a, "num_threads"_a, "rank_speed"_a, "rank_alive"_a);
  m.def(
      "plan_moves",
      [](const Placement& from, const Placement& to) {
        nb::typed<nb::list, nb::typed<nb::tuple, int, int, int, std::string>> list;
        for (const Move& move : plan_moves(from, to)) {
          list.append(nb::make_tuple(move.logical, move.source, move.target, kind_name(move.kind)));
        }
        return list;
      },
      "old"_a, "new"_a);
  m.def("keep_slots", &keep_slots, "old"_a, "new"_a);
  m.def("keep_ranks", &keep_ranks, "old"_a, "new"_a, "keep_nodes"_a);
  m.def(
      "schedule",
      [](const std::vector<std::tuple<Index, Index, Index, std::string>>& moves,
         const Placement& old,
         const Placement& next) -> Schedule { return schedule_of(moves, old, next); },
      "moves"_a, "old"_a, "new"_a);
  m.def("place_homes", &homes_of, "loads"_a, "num_batches"_a, "num_layers"_a, "num_logical"_a,
        "num_replicas"_a, "num_ranks"_a, "old"_a, "max_trials"_a, "max_moves"_a, "max_bytes"_a,
        "expert_bytes"_a, "max_seconds"_a, "min_gain"_a, "move_homes"_a, "restart"_a,
        "batches_only"_a, "dynamic_slots"_a, "num_domains"_a, "pinned"_a, "num_threads"_a,
        "rank_speed"_a, "rank_alive"_a, "backend"_a);
}

void bind_topology(nb::module_& m) {
  nb::class_<Topology>(m, "Topology")
      .def_ro("name", &Topology::name)
      .def_ro("group_size", &Topology::group_size)
      .def_ro("num_columns", &Topology::num_columns)
      .def_prop_ro(
          "r2o",
          [](const Topology& t) {
            return to_array(t.r2o, {static_cast<std::size_t>(t.group_size),
                                    static_cast<std::size_t>(t.num_columns)});
          },
          nb::rv_policy::automatic)
      .def("__repr__", [](const Topology& t) { return "Topology('" + t.name + "')"; });
  m.def("topology_cube", &cube);
  m.def("topology_hypercube", &hypercube);
  m.def("topology_torus", &torus, "rows"_a, "columns"_a);
  m.def("topology_ring", &ring, "num_ranks"_a);
  m.def(
      "topology_custom",
      [](const ArrayIn<Index>& r2o, Index group_size, Index num_columns, const std::string& name) {
        return custom_topology(span_of(r2o), group_size, num_columns, name);
      },
      "r2o"_a, "group_size"_a, "num_columns"_a, "name"_a);
  m.def("topology_parse", &parse_topology, "name"_a);
}

}  // namespace lplb::python
