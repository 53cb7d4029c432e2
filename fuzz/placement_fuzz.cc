// SPDX-License-Identifier: MIT
#include "io/files.h"
#include "lplb/solver.h"
#include "target.h"

/// The input is a placement file. If it is accepted, it must be possible to write the placement, to
/// read it again, and to solve for it.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace lplb;
  return fuzz::run([&] {
    std::vector<Index> numbers, again;
    const std::vector<Placement> layers =
        io::parse_placement(fuzz::text_of(data, size), "input", &numbers);
    if (layers.empty()) std::abort();
    const std::string written = io::placement_json(layers, numbers);
    if (io::parse_placement(written, "written", &again) != layers) std::abort();
    if (again != numbers) std::abort();

    const Placement& placement = layers[0];
    std::vector<Load> load(static_cast<std::size_t>(placement.num_logical_experts));
    for (std::size_t e = 0; e < load.size(); ++e) load[e] = static_cast<Load>(e * 37 % 101);
    if (!verify_split(placement, load, solve(placement, load)).empty()) std::abort();
  });
}
