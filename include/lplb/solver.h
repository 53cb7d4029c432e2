// SPDX-License-Identifier: MIT
#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "lplb/backend.h"
#include "lplb/cost.h"
#include "lplb/export.h"
#include "lplb/types.h"

namespace lplb {

/// The algorithms. kCut and kFlow return an optimal split. If there are several, the two may choose
/// different ones, but each chooses the same on every machine and backend and with any number of
/// threads. kIpm comes as near to the optimum as its tolerance and the rounding to whole tokens
/// allow, and says how near. kTime and kFastTime look for the split of the least cost, which is
/// another question: they need SolveOptions::cost. docs/time.md has both.
enum class Solver {
  kAuto,      ///< kTime if there is a cost; otherwise kCut for up to kMaxCutRanks ranks, then kFlow
  kCut,       ///< the slacks of all sets of ranks; up to kMaxCutRanks ranks
  kFlow,      ///< water-filling sweeps, then waves of a preflow; any size
  kIpm,       ///< interior point; up to kMaxIpmRanks ranks; kAuto never takes it
  kTime,      ///< whole experts, augmenting paths and local search, by a CostModel; any size
  kFastTime,  ///< the split by tokens, then sweeps over the experts; any size. Planners take it
};

inline constexpr Index kMaxCutRanks = 8;
inline constexpr Index kMaxIpmRanks = 256;

/// Converts "auto", "cut", "flow", "ipm", "time" and "fast-time" to a Solver, and back. Throws
/// ArgumentError for any other name.
LPLB_API Solver parse_solver(std::string_view name);
LPLB_API const char* solver_name(Solver solver);

enum class SolveStatus {
  kOptimal,  ///< max_load == lower_bound; bottleneck_ranks proves it. kTime: the same of the cost
  kBounded,  ///< stopped by a step limit or a tolerance, or kTime found no better one: the split is
             ///< feasible and the bound holds, but a gap is left
};

LPLB_API const char* status_name(SolveStatus status);

struct SolveOptions {
  Solver solver = Solver::kAuto;
  /// Only for kFlow: the most waves and raised bounds together. < 0: no limit on the CPU; with
  /// kCuda 64 + 16 * num_ranks, which no known batch reaches.
  std::int64_t max_steps = -1;
  /// kCuda: on the current device, with the same result. If the loads sum to more than 2^31 - 1,
  /// speeds are unequal, or a block of threads cannot hold the placement, the CPU solves:
  /// Split::backend says where.
  Backend backend = Backend::kCpu;
  /// What tokens cost: the split makes the largest cost of a rank small, in place of the largest
  /// load. It must outlive the call. Null: the split is by tokens. kCuda solves by kFastTime; kTime
  /// is for the CPU.
  const CostModel* cost = nullptr;

  // The rest is only for kIpm.
  double tolerance = 1e-6;  ///< stop at this gap between T and its bound, relative to T
  int max_iterations = 60;
  /// Start from the shares and prices with which the workspace's last solve by kIpm ended, if its
  /// sizes were the same. The result then depends on what was solved before. solve_batch() ignores
  /// it.
  bool warm_start = false;
};

/// A level of load: tokens / speed of `rank`, exactly. The doubles next to it in Split are rounded.
struct Level {
  Load tokens = 0;
  Index rank = 0;
};

/// What a split costs by SolveOptions::cost, and the proof of its quality.
struct SplitCost {
  double max_cost = 0;     ///< the largest cost of a rank, in the model's unit
  double lower_bound = 0;  ///< no split into whole tokens costs less, in the model's unit
  Cost max = 0;            ///< max_cost in thousandths, exactly
  Cost bound = 0;          ///< lower_bound in thousandths, exactly
  /// The proof of lower_bound: a set of ranks, ascending. What the experts whose live replicas are
  /// all on these ranks cost at least is more than the set can take below lower_bound.
  std::vector<Index> bottleneck_ranks;
  std::vector<Cost> rank_cost;        ///< [num_ranks], with the constant `rank` of the model
  std::vector<Index> active_experts;  ///< [num_ranks]: experts with tokens there
};

/// A split of one batch, and the proof of its quality. An object that is used again keeps its
/// memory. With SolveOptions::cost, `status` is that of `cost`; the loads and their bound are in
/// tokens all the same.
struct Split {
  SolveStatus status = SolveStatus::kOptimal;
  Solver solver = Solver::kAuto;    ///< the one that ran; never kAuto
  Backend backend = Backend::kCpu;  ///< where it ran
  double max_load = 0;              ///< T: max over ranks of load / speed
  double lower_bound = 0;           ///< no split into whole tokens has a smaller T
  /// The proof of lower_bound: a set of ranks, ascending. Experts whose live replicas are all on
  /// these ranks have more tokens than the set can take below lower_bound.
  std::vector<Index> bottleneck_ranks;
  Level max_level;                  ///< max_load, exactly, and a rank that carries it
  Level bound_level;                ///< lower_bound, exactly
  std::vector<Load> rank_load;      ///< [num_ranks]
  std::vector<Load> physical_load;  ///< [num_physical]: tokens that each replica takes
  std::int64_t steps = 0;  ///< kFlow: waves and raised bounds; kIpm: iterations; kTime: moves
  SplitCost cost;          ///< zeros and empty without SolveOptions::cost
};

/// What solvers derive from a placement once, before they solve: the replicated experts, the live
/// ranks of each, and the colours in which they are levelled together. Solves do not change it, so
/// threads can share it.
class LPLB_API SplitProblem {
 public:
  /// Throws ArgumentError if make_placement() did not make `placement`.
  explicit SplitProblem(const Placement& placement);
  ~SplitProblem();
  SplitProblem(SplitProblem&&) noexcept;
  SplitProblem& operator=(SplitProblem&&) noexcept;

  /// Takes another placement with the same ranks. Allocates only if it is larger than all before.
  void assign(const Placement& placement);

  Index num_ranks() const;
  Index num_logical() const;
  Index num_physical() const;

  struct LPLB_HIDDEN Tables;
  const Tables& tables() const { return *tables_; }

 private:
  std::unique_ptr<Tables> tables_;
};

/// The scratch memory of solvers; each thread needs its own. It grows to the largest problem that
/// it has seen.
class LPLB_API Workspace {
 public:
  Workspace();
  ~Workspace();
  Workspace(Workspace&&) noexcept;
  Workspace& operator=(Workspace&&) noexcept;

  struct LPLB_HIDDEN Buffers;
  Buffers& buffers() { return *buffers_; }
  struct LPLB_HIDDEN DeviceDeleter;
  struct LPLB_HIDDEN TimeDeleter;

 private:
  std::unique_ptr<Buffers> buffers_;
};

/// Splits `load` [num_logical] over the replicas, in whole tokens, so that the largest load / speed
/// of a rank is least, and proves it. With options.cost the largest cost of a rank is made small
/// instead, with a proven bound. It is never above that of the split by tokens, of the even split,
/// or of no replicas (each expert whole on its first live replica), and it is the least if no
/// replicated expert has more tokens than the first step of the cost's table. Does not allocate if
/// `split` and `workspace` have seen the size before.
///
/// Throws ArgumentError if a load is negative, the sum passes 2^63 - 1, `load` has another length,
/// the cost does not fit the placement or passes 2^62 thousandths, or the named solver cannot take
/// the problem (kCut with more than kMaxCutRanks ranks, say): a solver that is named is never
/// replaced by another one. Throws CudaError if kCuda cannot be used.
///
/// Takes a few microseconds for 8 ranks with 2 redundants each; see bench/RESULTS.md.
LPLB_API void solve(const SplitProblem& problem, std::span<const Load> load, Split& split,
                    Workspace& workspace, const SolveOptions& options = {});

/// The same in one call, for a single use.
LPLB_API Split solve(const Placement& placement, std::span<const Load> load,
                     const SolveOptions& options = {});

/// The outcome of one batch in solve_batch().
struct SplitSummary {
  SolveStatus status;
  double max_load;
  double lower_bound;
  Backend backend = Backend::kCpu;  ///< where it ran
  double max_cost = 0;              ///< as in SplitCost; 0 without SolveOptions::cost
  double cost_lower_bound = 0;
};

/// Solves several batches of one placement on `num_threads` threads. `loads` [num_batches,
/// num_logical]. `physical_loads` [num_batches, num_physical] and `summary` [num_batches] are
/// written. The result is that of solve() for each batch, bit for bit. Throws ArgumentError if
/// lengths disagree, and for the first bad batch what solve() throws.
LPLB_API void solve_batch(const SplitProblem& problem, std::span<const Load> loads,
                          std::span<Load> physical_loads, std::span<SplitSummary> summary,
                          int num_threads, const SolveOptions& options = {});

/// The same on the calling thread, with memory that the workspace keeps: for many calls of few
/// batches. With kCuda there is one launch for up to 16384 batches, on the workspace's own stream.
LPLB_API void solve_batch(const SplitProblem& problem, std::span<const Load> loads,
                          std::span<Load> physical_loads, std::span<SplitSummary> summary,
                          Workspace& workspace, const SolveOptions& options = {});

/// The even split, which EPLB and its users make: divides each expert's tokens evenly over its live
/// replicas, whatever the ranks carry. The remainder of expert e goes to its live replicas from the
/// (e % count)-th on. `load` [num_logical]; `physical_load` [num_physical] is written. Throws
/// ArgumentError if a length is wrong or a load is negative.
LPLB_API void split_evenly(const Placement& placement, std::span<const Load> load,
                           std::span<Load> physical_load);

/// Checks a split from first principles, with code that shares nothing with the solvers:
///
/// - the live replicas of each expert, and only these, take all its tokens;
/// - rank_load and max_load follow from that;
/// - bottleneck_ranks proves lower_bound;
/// - kOptimal means that max_load equals lower_bound.
///
/// With `cost`, which must be that of the split, it also checks Split::cost in the same way, and
/// kOptimal means that its max equals its bound.
///
/// Returns what is wrong, or an empty string. Throws ArgumentError if the cost does not fit the
/// placement.
LPLB_API std::string verify_split(const Placement& placement, std::span<const Load> load,
                                  const Split& split, const CostModel* cost = nullptr);

}  // namespace lplb
