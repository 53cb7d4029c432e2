// SPDX-License-Identifier: MIT
#include "io/files.h"
#include "target.h"

/// The input is a load file, which is read as `lplb solve` and as `lplb place` do. If it is
/// accepted, the load must have the shape that it promises.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace lplb;
  const std::string_view text = fuzz::text_of(data, size);
  fuzz::run([&] { io::parse_real_load(text, "input"); });
  return fuzz::run([&] {
    const io::Matrix<Load> load = io::parse_load(text, "input");
    if (load.values.size() != load.rows * load.columns) std::abort();
    for (const Load tokens : load.values) {
      if (tokens < 0) std::abort();
    }
  });
}
