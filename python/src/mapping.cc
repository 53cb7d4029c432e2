// SPDX-License-Identifier: MIT
#include "bindings.h"

namespace lplb::python {
namespace {

template <class Id>
void bind_ids(nb::module_& m) {
  m.def(
      "count_tokens",
      [](const ArrayIn<Id>& topk_idx, Index num_logical,
         const std::string& backend) -> nb::typed<nb::tuple, ArrayOut<Load>, std::int64_t> {
        std::vector<Load> load(static_cast<std::size_t>(num_logical));
        const Backend where = parse_backend(backend);
        const CountStatus status =
            without_gil([&] { return count_tokens(span_of(topk_idx), load, where); });
        return nb::make_tuple(to_array(std::move(load)), status.out_of_range);
      },
      "topk_idx"_a, "num_logical"_a, "backend"_a);
  m.def(
      "map_tokens",
      [](const Placement& placement, const ArrayIn<Load>& counts, const ArrayIn<Load>& split,
         Index rank, const ArrayIn<Id>& topk_idx, const std::string& backend) {
        std::vector<Id> out(topk_idx.size());
        const Backend where = parse_backend(backend);
        without_gil([&] {
          map_tokens(placement, span_of(counts), span_of(split), rank, span_of(topk_idx),
                     std::span<Id>(out), where);
        });
        return to_array(std::move(out));
      },
      "placement"_a, "counts"_a, "physical_load"_a, "rank"_a, "topk_idx"_a, "backend"_a);
  m.def(
      "map_tokens_in_proportion",
      [](const Placement& placement, const ArrayIn<Load>& split, Index rank,
         const ArrayIn<Id>& topk_idx, const std::string& backend) {
        std::vector<Id> out(topk_idx.size());
        const Backend where = parse_backend(backend);
        without_gil([&] {
          map_tokens_in_proportion(placement, span_of(split), rank, span_of(topk_idx),
                                   std::span<Id>(out), where);
        });
        return to_array(std::move(out));
      },
      "placement"_a, "physical_load"_a, "rank"_a, "topk_idx"_a, "backend"_a);
}

}  // namespace

void bind_mapping(nb::module_& m) {
  bind_ids<std::int32_t>(m);
  bind_ids<std::int64_t>(m);
  m.def(
      "count_local",
      [](const Placement& placement, const ArrayIn<Load>& counts,
         const ArrayIn<Load>& split) -> nb::typed<nb::tuple, Load, Load> {
        const Locality local = count_local(placement, span_of(counts), span_of(split));
        return nb::make_tuple(local.same_rank, local.same_node);
      },
      "placement"_a, "counts"_a, "physical_load"_a);
}

}  // namespace lplb::python
