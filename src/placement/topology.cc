// SPDX-License-Identifier: MIT
#include "lplb/topology.h"

#include <charconv>
#include <string_view>

#include "core/check.h"
#include "core/format.h"
#include "io/json.h"
#include "placement/checks.h"

namespace lplb {
namespace {

/// Appends a column in which rank g copies from original(g).
template <class Original>
void append_column(Topology& topology, Original original) {
  const Index column = topology.num_columns++;
  std::vector<Index> wider;
  wider.reserve(static_cast<std::size_t>(topology.group_size) * topology.num_columns);
  for (Index g = 0; g < topology.group_size; ++g) {
    const auto row = topology.r2o.begin() + g * column;
    wider.insert(wider.end(), row, row + column);
    wider.push_back(original(g));
  }
  topology.r2o = std::move(wider);
}

Topology empty_topology(std::string name, Index group_size) {
  return {.name = std::move(name), .group_size = group_size, .num_columns = 0, .r2o = {}};
}

/// The rank before `g` on its face, a ring of four ranks: 3 0 1 2.
Index before_on_face(Index g) { return g / 4 * 4 + (g + 3) % 4; }

/// `text` as a decimal number without a sign; -1 if it is no such number, or does not fit an Index.
Index parse_size(std::string_view text) {
  Index value = -1;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  const bool whole = error == std::errc{} && end == text.data() + text.size();
  return whole && text.front() != '-' ? value : -1;
}

Topology read_topology(const std::string& name, const std::string& path) {
  const io::Json json = io::parse_json(io::read_file(path), path);
  const io::Object file(json, path);
  file.allow_only({"r2o"});
  const auto r2o = io::integer_matrix(file.at("r2o"), path, "key r2o", 0, kMaxRanks - 1,
                                      /*flat_is_one_row=*/false);
  if (r2o.rows < 2 || r2o.rows > std::size_t{kMaxRanks}) {
    file.fail("r2o", formatted("has {} rows, expected one for each of 2 to {} ranks", r2o.rows,
                               kMaxRanks));
  }
  if (r2o.columns > std::size_t{kMaxPhysical}) {
    file.fail("r2o", formatted("has {} columns, expected 1 to {}", r2o.columns, kMaxPhysical));
  }
  Topology topology{.name = name,
                    .group_size = static_cast<Index>(r2o.rows),
                    .num_columns = static_cast<Index>(r2o.columns),
                    .r2o = std::vector<Index>(r2o.values.begin(), r2o.values.end())};
  if (const auto misfit = placement::find_misfit(topology)) {
    throw FileError(path, formatted("key r2o[{}][{}]", misfit->rank, misfit->column),
                    misfit->problem);
  }
  return topology;
}

}  // namespace

std::optional<placement::TopologyMisfit> placement::find_misfit(const Topology& topology) {
  const Index n = topology.group_size;
  std::vector<Index> copied_by(n);
  for (Index column = 0; column < topology.num_columns; ++column) {
    copied_by.assign(n, -1);
    for (Index g = 0; g < n; ++g) {
      const Index original = topology.original(g, column);
      const auto misfit = [&](std::string problem) {
        return placement::TopologyMisfit{
            .rank = g, .column = column, .problem = std::move(problem)};
      };
      if (original < 0 || original >= n) {
        return misfit(formatted("rank {} is not in the group, expected 0 to {}", original, n - 1));
      }
      if (original == g) return misfit(formatted("rank {} would copy itself", g));
      if (copied_by[original] >= 0) {
        return misfit(
            formatted("rank {} is already copied by rank {}, expected each rank once "
                      "in a column",
                      original, copied_by[original]));
      }
      copied_by[original] = g;
    }
  }
  return std::nullopt;
}

void placement::check_topology(const Topology& topology) {
  check_argument(topology.group_size >= 2 && topology.group_size <= kMaxRanks,
                 "topology.group_size", "{} is not between 2 and {}", topology.group_size,
                 kMaxRanks);
  check_argument(topology.num_columns >= 1 && topology.num_columns <= kMaxPhysical,
                 "topology.num_columns", "{} is not between 1 and {}", topology.num_columns,
                 kMaxPhysical);
  const auto expected = std::size_t{1} * topology.group_size * topology.num_columns;
  check_argument(topology.r2o.size() == expected, "r2o",
                 "has {} entries, expected group_size * num_columns ({} * {})", topology.r2o.size(),
                 topology.group_size, topology.num_columns);
  if (const auto misfit = placement::find_misfit(topology)) {
    throw ArgumentError(
        "r2o", formatted("rank {}, column {}: {}", misfit->rank, misfit->column, misfit->problem));
  }
}

Topology cube() {
  Topology topology = empty_topology("cube", 8);
  append_column(topology, before_on_face);
  append_column(topology, [](Index g) { return g < 4 ? 4 + (g + 2) % 4 : g - 4; });
  return topology;
}

Topology hypercube() {
  Topology topology = empty_topology("hypercube", 16);
  append_column(topology, before_on_face);
  append_column(topology, [](Index g) { return (g + 12) % 16; });
  return topology;
}

Topology torus(Index rows, Index columns) {
  // In a line of one rank, that rank would copy itself.
  check_argument(rows >= 2 && rows <= kMaxRanks / 2, "rows", "{} is not between 2 and {}", rows,
                 kMaxRanks / 2);
  check_argument(columns >= 2 && columns <= kMaxRanks / 2, "columns", "{} is not between 2 and {}",
                 columns, kMaxRanks / 2);
  check_argument(rows * columns <= kMaxRanks, "rows", "{} x {} ranks are above the limit of {}",
                 rows, columns, kMaxRanks);
  Topology topology = empty_topology(formatted("torus:{}x{}", rows, columns), rows * columns);
  append_column(topology, [&](Index g) { return (g + columns) % (rows * columns); });
  append_column(topology,
                [&](Index g) { return g / columns * columns + (g % columns + 1) % columns; });
  return topology;
}

Topology ring(Index num_ranks) {
  check_argument(num_ranks >= 2 && num_ranks <= kMaxRanks, "num_ranks",
                 "{} is not between 2 and {}", num_ranks, kMaxRanks);
  Topology topology = empty_topology(formatted("ring:{}", num_ranks), num_ranks);
  append_column(topology, [&](Index g) { return (g + 1) % num_ranks; });
  return topology;
}

Topology custom_topology(std::span<const Index> r2o, Index group_size, Index num_columns,
                         std::string name) {
  Topology topology{.name = std::move(name),
                    .group_size = group_size,
                    .num_columns = num_columns,
                    .r2o = std::vector<Index>(r2o.begin(), r2o.end())};
  placement::check_topology(topology);
  return topology;
}

Topology parse_topology(const std::string& name) {
  if (name == "cube") return cube();
  if (name == "hypercube") return hypercube();
  const std::string_view text = name;
  const auto has_prefix = [&](std::string_view prefix) {
    return text.substr(0, prefix.size()) == prefix;
  };
  if (has_prefix("r2o:")) {
    check_argument(text.size() > 4, "topology", "\"{}\" names no file, expected r2o:FILE", name);
    return read_topology(name, name.substr(4));
  }
  if (has_prefix("ring:")) {
    const Index n = parse_size(text.substr(5));
    check_argument(n >= 2 && n <= kMaxRanks, "topology",
                   "\"{}\": expected ring:N with N from 2 to {}", name, kMaxRanks);
    return ring(n);
  }
  if (has_prefix("torus:")) {
    const std::string_view sizes = text.substr(6);
    const std::size_t cross = sizes.find('x');
    const Index rows = parse_size(sizes.substr(0, cross));
    const Index columns =
        cross == std::string_view::npos ? -1 : parse_size(sizes.substr(cross + 1));
    check_argument(rows >= 2 && columns >= 2 && rows <= kMaxRanks / columns, "topology",
                   "\"{}\": expected torus:MxN with M and N of at least 2 and at most {} ranks",
                   name, kMaxRanks);
    return torus(rows, columns);
  }
  throw ArgumentError("topology",
                      formatted("\"{}\" is unknown, expected cube, hypercube, torus:MxN, ring:N "
                                "or r2o:FILE",
                                name));
}

}  // namespace lplb
