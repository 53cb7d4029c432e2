// SPDX-License-Identifier: MIT
#include "simulate/trace_load.h"

#include <deque>

#include "core/check.h"
#include "simulate/batcher.h"
#include "simulate/selection.h"

namespace lplb::replay {

std::vector<Index> layer_numbers(const TraceInfo& info) {
  std::vector<Index> numbers;
  bool differ = false;
  for (std::size_t i = 0; i < static_cast<std::size_t>(info.num_layers); ++i) {
    numbers.push_back(static_cast<Index>(info.layer_number(i)));
    differ |= numbers.back() != static_cast<Index>(i);
  }
  return differ ? numbers : std::vector<Index>();
}

TraceLoad read_trace_load(const SimulateOptions& options, std::int64_t window, bool keep_batches) {
  Selection reader(options, options.synthetic);
  TraceLoad result;
  result.info = reader.info();
  result.load.assign(static_cast<std::size_t>(result.info.num_layers) *
                         static_cast<std::size_t>(result.info.num_logical_experts),
                     0.0);
  const auto add = [&](const std::vector<Load>& load) {
    for (std::size_t i = 0; i < load.size(); ++i) result.load[i] += static_cast<double>(load[i]);
  };

  Batcher batcher(reader, options.batch_tokens, 1);
  Batch batch;
  std::deque<std::vector<Load>> last;  // the window
  for (; batcher.next(batch); ++result.num_batches) {
    if (window == 0 && !keep_batches) {
      add(batch.load);
      continue;
    }
    last.push_back(batch.load);
    if (window > 0 && static_cast<std::int64_t>(last.size()) > window) last.pop_front();
  }
  const std::string file = options.trace == "-" ? "standard input" : options.trace;
  check_argument(result.num_batches > 0 || reader.num_read() == 0, "skip_steps",
                 "{} leaves none of the {} steps of {}", options.skip_steps, reader.num_read(),
                 file);
  if (result.num_batches == 0) throw FileError(file, "", "holds no steps");
  result.repeats = reader.repeats();
  for (const std::vector<Load>& load : last) add(load);
  if (keep_batches) result.batches.assign(last.begin(), last.end());
  result.num_summed = window == 0 ? result.num_batches : static_cast<std::int64_t>(last.size());
  return result;
}

}  // namespace lplb::replay
