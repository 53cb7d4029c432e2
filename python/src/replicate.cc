// SPDX-License-Identifier: MIT
#include "bindings.h"

namespace lplb::python {

void bind_replicate(nb::module_& m) {
  nb::class_<ReplicateOptions>(m, "ReplicateOptions")
      .def(
          "__init__",
          [](ReplicateOptions* self, Index dynamic_slots, double target, Load min_tokens,
             Index num_domains, double us_per_token, double expert_bytes, double gigabytes_per_s,
             double hidden_us) {
            new (self) ReplicateOptions{dynamic_slots,
                                        target,
                                        min_tokens,
                                        num_domains,
                                        {us_per_token, expert_bytes, gigabytes_per_s, hidden_us}};
          },
          "dynamic_slots"_a, "target"_a, "min_tokens"_a, "num_domains"_a, "us_per_token"_a,
          "expert_bytes"_a, "gigabytes_per_s"_a, "hidden_us"_a);

  nb::class_<Replication>(m, "Replication")
      .def_prop_ro("status", [](const Replication& r) { return status_name(r.status); })
      .def_ro("max_load", &Replication::max_load)
      .def_ro("lower_bound", &Replication::lower_bound)
      .def_ro("copies", &Replication::copies)
      .def_ro("max_sent", &Replication::max_sent)
      .def_ro("max_received", &Replication::max_received)
      .def_ro("saved_us", &Replication::saved_us)
      .def_ro("exposed_us", &Replication::exposed_us)
      .def_prop_ro(
          "bottleneck_ranks", [](const Replication& r) { return to_array(r.bottleneck_ranks); },
          nb::rv_policy::automatic)
      .def_prop_ro(
          "slot_expert", [](const Replication& r) { return to_array(r.slot_expert); },
          nb::rv_policy::automatic)
      .def_prop_ro(
          "slot_source", [](const Replication& r) { return to_array(r.slot_source); },
          nb::rv_policy::automatic)
      .def_prop_ro(
          "rank_load", [](const Replication& r) { return to_array(r.rank_load); },
          nb::rv_policy::automatic)
      .def_prop_ro(
          "physical_load", [](const Replication& r) { return to_array(r.physical_load); },
          nb::rv_policy::automatic);

  m.def(
      "replicate",
      [](const Placement& placement, const ArrayIn<Load>& load, const ReplicateOptions& options) {
        return without_gil([&] { return replicate(placement, span_of(load), options); });
      },
      "placement"_a, "load"_a, "options"_a);
  m.def(
      "verify_replication",
      [](const Placement& placement, const ArrayIn<Load>& load, const ReplicateOptions& options,
         const Replication& replication) {
        return verify_replication(placement, span_of(load), options, replication);
      },
      "placement"_a, "load"_a, "options"_a, "replication"_a);
  m.def(
      "replication_mapping",
      [](const Placement& placement, const Replication& replication, Index num_domains) {
        return to_array(redundancy_mapping(placement, replication, num_domains));
      },
      "placement"_a, "replication"_a, "num_domains"_a);
  m.def(
      "experts_to_copy",
      [](const Replication& replication, Index num_ranks, Index columns) {
        return to_array(experts_to_copy(replication, num_ranks, columns));
      },
      "replication"_a, "num_ranks"_a, "columns"_a);
}

}  // namespace lplb::python
