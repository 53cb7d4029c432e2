// SPDX-License-Identifier: MIT
#include "outputs.h"

#include <algorithm>
#include <cerrno>
#include <filesystem>

#include "core/format.h"
#include "exit_status.h"
#include "io/output.h"
#include "io/system_error.h"

namespace lplb::app {
namespace {

namespace fs = std::filesystem;

/// Returns the same text for two paths of the same file, even if the file does not exist yet.
std::string place_of(const std::string& path) {
  if (path == "-") return path;
  std::error_code ignored;
  const fs::path canonical = fs::weakly_canonical(fs::absolute(path, ignored), ignored);
  return canonical.empty() ? path : canonical.string();
}

bool is_file(const std::string& path) {
  std::error_code ignored;
  return path != "-" && (!fs::exists(path, ignored) || fs::is_regular_file(path, ignored));
}

}  // namespace

Outputs::Outputs(std::vector<Target> targets, const std::vector<Target>& inputs)
    : targets_(std::move(targets)) {
  for (auto target = targets_.begin(); target != targets_.end(); ++target) {
    if (target->path.empty()) continue;
    const auto same = std::find_if(targets_.begin(), target, [&](const Target& other) {
      return !other.path.empty() && place_of(other.path) == place_of(target->path);
    });
    if (same != target) {
      throw ArgumentError(target->option,
                          formatted("{}, where {} goes already", target->path, same->option));
    }
    for (const Target& input : inputs) {
      if (input.path.empty() || !is_file(target->path)) continue;
      if (place_of(input.path) != place_of(target->path)) continue;
      throw ArgumentError(target->option, formatted("{} is the file of {}, expected another file",
                                                    target->path, input.option));
    }
    try {
      io::check_output(target->path);
    } catch (const FileError& error) {
      throw OutputError(error.what());
    }
  }
}

std::string file_of_policy(const std::string& policy) {
  for (const std::string prefix : {"file:", "r2o:"}) {
    if (!policy.starts_with(prefix)) continue;
    const std::string rest = policy.substr(prefix.size());
    const std::size_t split = rest.rfind('+');  // a file's name may hold one too
    return split != rest.npos && rest.find_first_of("./", split) == rest.npos
               ? rest.substr(0, split)
               : rest;
  }
  return "";
}

bool Outputs::take_standard_output() const {
  return std::any_of(targets_.begin(), targets_.end(),
                     [](const Target& target) { return target.path == "-"; });
}

void Outputs::write(const std::vector<std::string>& contents) const {
  for (const bool files : {false, true}) {
    for (std::size_t i = 0; i < targets_.size(); ++i) {
      const std::string& path = targets_[i].path;
      if (path.empty() || is_file(path) != files) continue;
      try {
        io::write_file(path, contents[i]);
      } catch (const io::SystemError& error) {
        if (path == "-" && error.error_number() == EPIPE) throw ClosedPipe();
        throw OutputError(error.what());
      } catch (const FileError& error) {
        throw OutputError(error.what());
      }
    }
  }
}

void print(const std::string& text) {
  const std::vector<Outputs::Target> targets = {{"", "-"}};
  Outputs(targets).write({text});
}

std::string Table::text() const {
  std::vector<std::size_t> width(rows_[0].size(), 0);
  for (const auto& row : rows_) {
    for (std::size_t i = 0; i < row.size(); ++i) width[i] = std::max(width[i], row[i].size());
  }
  std::string out;
  for (const auto& row : rows_) {
    std::string line;
    for (std::size_t i = 0; i < row.size(); ++i) {
      line +=
          i == 0 ? formatted("{:<{}}", row[i], width[i]) : formatted("  {:>{}}", row[i], width[i]);
    }
    line.erase(line.find_last_not_of(' ') + 1);
    out += line + "\n";
  }
  return out;
}

}  // namespace lplb::app
