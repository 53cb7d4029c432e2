// SPDX-License-Identifier: MIT
#pragma once

#include <span>
#include <string>
#include <vector>

#include "lplb/export.h"
#include "lplb/trace.h"
#include "lplb/types.h"

// The files that the command reads and writes (docs/formats.md). As a path, "-" is standard input
// or standard output. What is read is checked: FileError names the file, the key, its value and
// what was expected. What is written appears whole or not at all, and can be read again;
// ArgumentError names what does not fit, before anything is written.
namespace lplb {

/// A load file: the tokens of the experts in several batches or layers.
struct LoadFile {
  Index num_logical_experts = 0;
  std::vector<Load> load;  ///< [rows, num_logical_experts], >= 0; the sum of a row is below 2^63
  /// [rows], ascending: the model's number of each row's layer; empty if they are not known.
  std::vector<Index> layers;
};

/// A placement file: a placement for each layer. All layers have the same ranks, nodes, logical
/// experts, speeds and dead ranks.
struct PlacementFile {
  std::vector<Placement> placements;
  /// [placements.size()], ascending: the model's number of each layer; empty if they are not known.
  std::vector<Index> layers;
};

/// Reads a load file of whole tokens. Throws FileError.
LPLB_API LoadFile read_load_file(const std::string& path);

/// Writes a load file. Throws ArgumentError if `file` has no row, a size that does not fit or a
/// value that is out of range, and FileError if it cannot be written.
LPLB_API void write_load_file(const LoadFile& file, const std::string& path);

/// Reads a placement file. Throws FileError.
LPLB_API PlacementFile read_placement_file(const std::string& path);

/// Writes a placement file, with the maps that follow from the placements. Throws ArgumentError if
/// `file` has no layer or layers that differ in more than their slots, and FileError if it cannot
/// be written.
LPLB_API void write_placement_file(const PlacementFile& file, const std::string& path);

/// Reads all steps of a trace in one of the formats of docs/traces.md, and sets `info`, unless it
/// is null. For a trace that memory does not hold, open_trace() reads step by step. Throws
/// FileError.
LPLB_API std::vector<TraceStep> read_trace_file(const std::string& path, TraceInfo* info = nullptr);

/// Writes a trace in this project's own format, which has no routing. A step
/// needs `load`, and if num_sources is given, source_load. For a trace that memory does not hold,
/// trace_header_line() and trace_step_line() give the lines. Throws ArgumentError if a size does
/// not fit `info` or a value is out of range, and FileError if it cannot be written.
LPLB_API void write_trace_file(const TraceInfo& info, std::span<const TraceStep> steps,
                               const std::string& path);

}  // namespace lplb
