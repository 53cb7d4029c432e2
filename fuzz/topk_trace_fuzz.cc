// SPDX-License-Identifier: MIT
#include <cstdio>
#include <filesystem>
#include <fstream>

#include "lplb/trace.h"
#include "target.h"

namespace {

/// A folder of this process for the pair of files. It is removed at the end.
class Folder {
 public:
  Folder() : path_(std::filesystem::temp_directory_path() / name()) {
    std::filesystem::create_directory(path_);
  }
  ~Folder() { std::filesystem::remove_all(path_); }

  std::string write(const char* file, std::string_view bytes) const {
    std::ofstream(path_ / file, std::ios::binary) << bytes;
    return path_ / file;
  }

 private:
  static std::string name() { return "lplb-fuzz-" + std::to_string(::getpid()); }
  std::filesystem::path path_;
};

}  // namespace

/// The input is a trace of two files, *.topk.npy and *.load.jsonl, with a line of '%' between them.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace lplb;
  static const Folder folder;
  const std::string_view bytes = fuzz::text_of(data, size);
  const std::size_t cut = bytes.find("\n%\n");
  if (cut == std::string_view::npos) return -1;
  const std::string path = folder.write("a.topk.npy", bytes.substr(0, cut));
  folder.write("a.load.jsonl", bytes.substr(cut + 3));
  return fuzz::run([&] {
    const auto reader = open_trace(path);
    const TraceInfo& info = reader->info();
    TraceStep step;
    while (reader->next(step)) {
      const auto entries = static_cast<std::size_t>(step.num_tokens * info.num_layers) *
                           static_cast<std::size_t>(info.num_topk);
      if (step.topk_idx.size() != entries) std::abort();
      for (const Index expert : step.topk_idx) {
        if (expert < -1 || expert >= info.num_logical_experts) std::abort();
      }
    }
  });
}
