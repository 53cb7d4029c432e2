// SPDX-License-Identifier: MIT
#include <algorithm>

#include "io/npy.h"
#include "target.h"

/// The input is a .npy file, which one reader takes as a whole and the other one in two parts. Both
/// readers must give the same items, or both must refuse it.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace lplb;
  const std::string_view bytes = fuzz::text_of(data, size);
  bool taken = false;
  io::NpyArray array;
  fuzz::run([&] {
    array = io::parse_npy(bytes, "input");
    taken = true;
  });
  bool streamed = false;
  std::vector<std::int64_t> items;
  fuzz::run([&] {
    const fuzz::MemoryFile file(bytes);
    io::NpyReader reader(file.path());
    const std::int64_t count = reader.header().num_items();
    items.resize(static_cast<std::size_t>(count));
    const std::int64_t half = count / 2;
    reader.read(items.data(), half);
    reader.read(items.data() + half, count - half);
    streamed = true;
  });
  if (taken != streamed || (taken && items != array.values)) std::abort();
  return 0;
}
