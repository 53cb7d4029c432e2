// SPDX-License-Identifier: MIT
#include "lplb/topology.h"
#include "target.h"

/// The input is the name of a topology, or, if it begins with "{", the contents of an r2o file. If
/// it is accepted, no rank may copy itself, and each column must be a permutation.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace lplb;
  const std::string_view text = fuzz::text_of(data, size);
  return fuzz::run([&] {
    const bool is_file = text.starts_with("{");
    // NOTE: names with a path are skipped, because the fuzzer would find its way to /dev/random.
    if (!is_file && text.find("r2o:") != std::string_view::npos) return;
    const fuzz::MemoryFile file(text);
    const Topology topology = parse_topology(is_file ? "r2o:" + file.path() : std::string(text));
    for (Index column = 0; column < topology.num_columns; ++column) {
      std::vector<char> given(static_cast<std::size_t>(topology.group_size));
      for (Index rank = 0; rank < topology.group_size; ++rank) {
        const Index original = topology.original(rank, column);
        if (original < 0 || original >= topology.group_size || original == rank) std::abort();
        if (given[original]++ != 0) std::abort();
      }
    }
  });
}
