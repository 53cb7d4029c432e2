// SPDX-License-Identifier: MIT
#include "io/files.h"
#include "lplb/solver.h"
#include "target.h"

/// The input is a cost model. If it is accepted, it must be possible to write it, to read it again,
/// and to solve with it.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace lplb;
  return fuzz::run([&] {
    const CostModel model = io::parse_cost(fuzz::text_of(data, size), "input");
    if (io::parse_cost(io::cost_json(model), "written") != model) std::abort();

    const auto tables = static_cast<Index>(model.tables().size());
    const Index num_ranks = tables == 1 ? 3 : tables;
    std::vector<Index> slots;
    for (Index g = 0; g < num_ranks; ++g) {
      slots.push_back(g);
      slots.push_back((g + 1) % num_ranks);
    }
    const Placement placement = make_placement(num_ranks, num_ranks, slots);
    std::vector<Load> load(static_cast<std::size_t>(num_ranks));
    for (std::size_t e = 0; e < load.size(); ++e) load[e] = static_cast<Load>(e * 37 % 1001);
    const Split split = solve(placement, load, {.cost = &model});
    if (!verify_split(placement, load, split, &model).empty()) std::abort();
  });
}
