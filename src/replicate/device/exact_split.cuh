// SPDX-License-Identifier: MIT
#pragma once

#include <type_traits>

#include "replicate/device/ranks.cuh"
#include "solve/device/block_flow.cuh"

namespace lplb::replicas {

/// The tables of a problem, with room for the solver's state.
inline CopyTables make_copy_tables(const CopySizes& sizes) {
  solvers::DeviceTablesHeader header{};
  header.num_ranks = sizes.num_ranks;
  header.num_live = 1;  // needs as many bytes as any number
  header.num_replicated = sizes.most_replicated();
  header.num_places = sizes.most_places();
  header.mask_words = sizes.split_words();
  return CopyTables(sizes, solvers::BlockState::bytes(header));
}

/// The ranks of a split in the quick form: those of the memory, with one speed. SplitRanks
/// (general_split.cuh) are those of the general form.
struct EqualSplitRanks {
  static constexpr bool kAreEqual = true;
  using Level = int;
};

/// The exact split of a batch over the main slots, and over the copies of a plan if they are
/// counted: makes the tables of SplitProblem::Tables in shared memory, numbered as the CPU numbers
/// them, and solves by a form of flow. It is for the few batches whose copies do not reach the
/// bound at once, so it is simple rather than quick. All threads of the block call its functions.
template <int kWords, class Ranks = EqualSplitRanks>
class ExactSplit {
 public:
  __device__ ExactSplit(const CopyMemory& memory, const CopyTables& tables, const Ranks& ranks = {})
      : m_(memory), t_(tables), ranks_(ranks), thread_(threadIdx.x) {}

  /// Finds the ranks that hold each expert: in main slots, and with copies if `with_copies`. Ends
  /// in a barrier.
  __device__ void find_holders(bool with_copies) {
    const CopySizes& sizes = m_.sizes;
    for_each(sizes.num_logical * kWords, [&](int i) { holders()[i] = 0; });
    __syncthreads();
    for_each(sizes.num_main(),
             [&](int slot) { add_holder(m_.slot_expert[slot], slot / sizes.main_slots); });
    if (with_copies) {
      for_each(sizes.num_dynamic(), [&](int i) {
        if (m_.dynamic_expert[i] >= 0) add_holder(m_.dynamic_expert[i], i / sizes.dynamic_slots);
      });
    }
    __syncthreads();
  }

  /// Splits `want` over the holders, in at most `most_steps` steps, more than any batch needs.
  /// Returns the largest load. Ends in a barrier.
  __device__ typename Ranks::Level run(int most_steps) {
    colour();
    number();
    index_ranks();
    find_parts();
    const solvers::BlockState state = take_loads();
    if constexpr (Ranks::kAreEqual) {
      solve(state, most_steps);
      __syncthreads();
      return m_.scalars->split_max;
    } else {
      return ranks_.solve(base(), tables_of(), state, most_steps);
    }
  }

  /// Whether a rank proves that no split is better.
  __device__ bool proves(int rank) const { return solvers::has_bit(state().proof, rank); }

  /// The tokens that the `index`-th of `count` slots on a rank gets, all of which have expert `e`.
  __device__ int share(int e, int rank, int index, int count) const {
    const int k = ids(t_.number_of)[e];
    int tokens = m_.want[e];
    if (k != kNoExpert) {
      int place = ids(t_.place_begin)[k];
      while (ids(t_.place_rank)[place] != rank) ++place;
      tokens = state().take[place];
    }
    const int each = tokens / count;
    return each + (index < tokens - each * count ? 1 : 0);
  }

  /// Whether a rank holds an expert, by find_holders().
  __device__ bool holds(int rank, int e) const {
    return (holders()[e * kWords + rank / 32] >> (rank % 32) & 1) != 0;
  }

 private:
  static constexpr int kSplitWords = kWords == 2 ? 3 : kWords;

  /// Solves by the quicker of the two forms that can.
  __device__ void solve(const solvers::BlockState& state, int most_steps) {
    constexpr bool kOneWarp = kWords == 1;
    constexpr int kTeam = kOneWarp ? 2 * device::kWarpSize : solvers::kMaskThreads;
    using Team = std::conditional_t<kOneWarp, solvers::WarpTeam, solvers::BlockTeam>;
    using Flow = solvers::MaskFlow<Team, kSplitWords, kOneWarp ? 64 : solvers::kMaskThreads>;
    const solvers::BlockTables tables(base(), tables_of());
    if (thread_ >= kTeam) return;
    solvers::BlockOutcome outcome;
    if (!Flow::takes(tables_of())) {
      outcome =
          solvers::BlockFlow(tables, state, solvers::BlockTeam(thread_, kTeam)).run(most_steps);
    } else if constexpr (!kOneWarp) {
      outcome = Flow(tables, state, solvers::BlockTeam(thread_, kTeam)).run(most_steps);
    } else {
      if (thread_ >= device::kWarpSize) return;
      outcome = Flow(tables, state, solvers::WarpTeam(thread_)).run(most_steps);
    }
    if (thread_ == 0) m_.scalars->split_max = outcome.max_load;
  }

  __device__ bool is_alive(int rank) const {
    if constexpr (Ranks::kAreEqual) {
      return m_.is_alive(rank);
    } else {
      return ranks_.is_alive(rank);
    }
  }

  __device__ unsigned char* base() const { return m_.tables; }
  __device__ solvers::DeviceTablesHeader& tables_of() const {
    return *reinterpret_cast<solvers::DeviceTablesHeader*>(base() + t_.header);
  }
  __device__ std::uint16_t* ids(int offset) const {
    return reinterpret_cast<std::uint16_t*>(base() + offset);
  }
  __device__ int* ints(int offset) const { return reinterpret_cast<int*>(base() + offset); }
  __device__ unsigned* holders() const { return reinterpret_cast<unsigned*>(base() + t_.holders); }

  /// Sets of each rank: of colours first, then of replicated experts.
  __device__ unsigned* sets() const { return reinterpret_cast<unsigned*>(base() + t_.used); }
  __device__ int set_words() const { return m_.sizes.most_replicated() / 32 + 1; }
  __device__ unsigned* experts_of(int rank) const { return sets() + rank * set_words(); }
  __device__ void clear_sets() const {
    for_each(m_.sizes.num_ranks * set_words(), [&](int i) { sets()[i] = 0; });
  }

  template <class Body>
  __device__ void for_each(int count, Body body) const {
#pragma unroll 1
    for (int i = thread_; i < count; i += kCopyThreads) body(i);
  }

  __device__ void add_holder(int e, int rank) const {
    if (e != kNoExpert) atomicOr(&holders()[e * kWords + rank / 32], 1u << (rank % 32));
  }

  __device__ int count_holders(int e) const {
    int count = 0;
#pragma unroll
    for (int w = 0; w < kWords; ++w) count += __popc(holders()[e * kWords + w]);
    return count;
  }

  /// Tables::colour_experts() by one warp, whose lanes have ranks: in the order of logical ids,
  /// each replicated expert gets the smallest colour that is free at all of its ranks.
  __device__ void colour() {
    const CopySizes& sizes = m_.sizes;
    const int words = set_words();
    unsigned* const used = sets();
    clear_sets();
    for_each(sizes.most_replicated() + 1, [&](int i) { ints(t_.colour_size)[i] = 0; });
    __syncthreads();
    if (thread_ < device::kWarpSize) {
      int num = 0;
      int num_colours = 0;
      int most_places = 0;
      unsigned low[kWords] = {};  // the first 32 colours of the lane's ranks; `used` has the others
#pragma unroll 1
      for (int first = 0; first < sizes.num_logical; first += device::kWarpSize) {
        const int e = first + thread_;
        const int places = e < sizes.num_logical ? count_holders(e) : 0;
        if (e < sizes.num_logical) ids(t_.number_of)[e] = kNoExpert;
        most_places = max(most_places, places);
        unsigned left = __ballot_sync(~0u, places > 1);
#pragma unroll 1
        for (; left != 0; left &= left - 1) {
          const int next = first + __ffs(static_cast<int>(left)) - 1;
          const int its = colour_one(next, low, used, words);
          num_colours = max(num_colours, its + 1);
          if (thread_ == 0) {
            ids(t_.listed)[num] = static_cast<std::uint16_t>(next);
            ids(t_.colour)[num] = static_cast<std::uint16_t>(its);
            ids(t_.index)[num] = static_cast<std::uint16_t>(ints(t_.colour_size)[its]++);
          }
          ++num;
        }
      }
      most_places = __reduce_max_sync(~0u, most_places);
      if (thread_ == 0) write_header(num, num_colours, most_places);
    }
    __syncthreads();
  }

  __device__ int colour_one(int e, unsigned (&low)[kWords], unsigned* used, int words) {
    bool mine[kWords];
    unsigned taken = 0;
#pragma unroll
    for (int w = 0; w < kWords; ++w) {
      mine[w] = (holders()[e * kWords + w] >> thread_ & 1) != 0;
      taken |= mine[w] ? low[w] : 0;
    }
    taken = __reduce_or_sync(~0u, taken);
    if (taken != ~0u) {
      const int bit = __ffs(static_cast<int>(~taken)) - 1;
#pragma unroll
      for (int w = 0; w < kWords; ++w) low[w] |= mine[w] ? 1u << bit : 0;
      return bit;
    }
#pragma unroll 1
    for (int word = 1;; ++word) {
      taken = 0;
#pragma unroll
      for (int w = 0; w < kWords; ++w) {
        if (mine[w]) taken |= used[(thread_ + 32 * w) * words + word];
      }
      taken = __reduce_or_sync(~0u, taken);
      if (taken == ~0u) continue;
      const int bit = __ffs(static_cast<int>(~taken)) - 1;
#pragma unroll
      for (int w = 0; w < kWords; ++w) {
        if (mine[w]) used[(thread_ + 32 * w) * words + word] |= 1u << bit;
      }
      return 32 * word + bit;
    }
  }

  __device__ void write_header(int num_replicated, int num_colours, int most_places) {
    solvers::DeviceTablesHeader& h = tables_of();
    h.num_ranks = m_.sizes.num_ranks;
    h.num_logical = m_.sizes.num_logical;
    h.num_physical = 0;
    h.num_replicated = num_replicated;
    h.num_colours = num_colours;
    h.num_live = m_.num_live;
    h.most_places = most_places > 1 ? most_places : 0;
    h.most_experts = num_replicated;  // at least as many as of any colour
    h.mask_words = kSplitWords;
    h.colour_begin = t_.colour_begin;
    h.place_begin = t_.place_begin;
    h.place_rank = t_.place_rank;
    h.incident_begin = t_.incident_begin;
    h.incident = t_.incident;
    h.incident_owner = t_.incident_owner;
    h.part_of = t_.part_of;
    h.part_size = t_.part_size;
    h.live_rank = t_.live_rank;
    h.expert_ranks = t_.expert_ranks;
    h.live_set = 0;  // no flow reads it
    h.reciprocal = t_.reciprocal;
  }

  /// Numbers the experts by (colour, logical id), and their places.
  __device__ void number() {
    const solvers::DeviceTablesHeader& h = tables_of();
    for_each(h.num_colours + 1, [&](int c) {
      int begin = 0;
      for (int before = 0; before < c; ++before) begin += ints(t_.colour_size)[before];
      ids(t_.colour_begin)[c] = static_cast<std::uint16_t>(begin);
    });
    for_each(solvers::kMostReciprocal, [&](int i) {
      reinterpret_cast<unsigned*>(base() + t_.reciprocal)[i + 1] =
          ~0u / static_cast<unsigned>(i + 1);
    });
    __syncthreads();
    for_each(h.num_replicated, [&](int i) {
      const int k = ids(t_.colour_begin)[ids(t_.colour)[i]] + ids(t_.index)[i];
      ids(t_.expert)[k] = ids(t_.listed)[i];
      ids(t_.number_of)[ids(t_.listed)[i]] = static_cast<std::uint16_t>(k);
    });
    clear_sets();
    __syncthreads();
    int* const places = ints(t_.colour_size);
    for_each(h.num_replicated, [&](int k) {
      places[k] = count_holders(ids(t_.expert)[k]);
#pragma unroll
      for (int w = 0; w < kSplitWords; ++w) {
        const unsigned set = w < kWords ? holders()[ids(t_.expert)[k] * kWords + w] : 0;
        reinterpret_cast<unsigned*>(base() + t_.expert_ranks)[k * kSplitWords + w] = set;
      }
      for_holders(ids(t_.expert)[k],
                  [&](int rank) { atomicOr(&experts_of(rank)[k / 32], 1u << (k % 32)); });
    });
    __syncthreads();
    for_each(h.num_replicated + 1, [&](int k) {
      int place = sum_before(places, k);
      ids(t_.place_begin)[k] = static_cast<std::uint16_t>(place);
      if (k == h.num_replicated) {
        tables_of().num_places = place;
        return;
      }
      for_holders(ids(t_.expert)[k], [&](int rank) {
        ids(t_.place_rank)[place++] = static_cast<std::uint16_t>(rank);
      });
    });
    __syncthreads();
  }

  __device__ static int sum_before(const int* values, int end) {
    int sum = 0;
#pragma unroll 8
    for (int i = 0; i < end; ++i) sum += values[i];
    return sum;
  }

  /// Calls body(rank) for the ranks that hold an expert, ascending.
  template <class Body>
  __device__ void for_holders(int e, Body body) const {
#pragma unroll 1
    for (int w = 0; w < kWords; ++w) {
#pragma unroll 1
      for (unsigned set = holders()[e * kWords + w]; set != 0; set &= set - 1) {
        body(32 * w + __ffs(static_cast<int>(set)) - 1);
      }
    }
  }

  /// Lists the places of each rank, by expert.
  __device__ void index_ranks() {
    const solvers::DeviceTablesHeader& h = tables_of();
    int* const degree = ints(t_.part);
    for_each(h.num_ranks, [&](int g) { degree[g] = count_before(g, h.num_replicated); });
    __syncthreads();
    for_each(h.num_ranks + 1, [&](int g) {
      ids(t_.incident_begin)[g] = static_cast<std::uint16_t>(sum_before(degree, g));
    });
    __syncthreads();
    for_each(h.num_replicated, [&](int k) {
      int place = ids(t_.place_begin)[k];
      for_holders(ids(t_.expert)[k], [&](int rank) {
        const int to = ids(t_.incident_begin)[rank] + count_before(rank, k);
        ids(t_.incident)[to] = static_cast<std::uint16_t>(place++);
        ids(t_.incident_owner)[to] = static_cast<std::uint16_t>(k);
      });
    });
    __syncthreads();
  }

  /// How many of the replicated experts before `end` a rank has.
  __device__ int count_before(int rank, int end) const {
    const unsigned* const set = experts_of(rank);
    int count = 0;
    for (int word = 0; word < end / 32; ++word) count += __popc(set[word]);
    return end % 32 == 0 ? count : count + __popc(set[end / 32] & ((1u << (end % 32)) - 1));
  }

  /// Finds the parts: each rank gets the least rank that experts join it with, directly or through
  /// others. Parts are numbered by these ranks, as on the CPU.
  __device__ void find_parts() {
    const solvers::DeviceTablesHeader& h = tables_of();
    int* const part = ints(t_.part);
    for_each(h.num_ranks, [&](int g) { part[g] = g; });
    if (thread_ == 0) tables_of().num_parts = 0;
    __syncthreads();
    for (bool changed = true; changed;) {
      if (thread_ == 0) m_.scalars->changed = 0;
      __syncthreads();
      for_each(h.num_replicated, [&](int k) {
        const int begin = ids(t_.place_begin)[k];
        const int end = ids(t_.place_begin)[k + 1];
        const auto part_at = [&](int place) { return now(&part[ids(t_.place_rank)[place]]); };
        int least = 0x7FFFFFFF;
        for (int i = begin; i < end; ++i) least = min(least, part_at(i));
        for (int i = begin; i < end; ++i) {
          const int its = part_at(i);
          if (its <= least) continue;
          // What the rank was joined with before is joined, too.
          atomicMin(&part[its], least);
          atomicMin(&part[ids(t_.place_rank)[i]], least);
          device::raise_flag(&m_.scalars->changed);
        }
      });
      __syncthreads();
      // Ranks jump to the ends of their chains.
      for_each(h.num_ranks, [&](int g) {
        int end = now(&part[g]);
        for (int next = now(&part[end]); next < end; next = now(&part[end])) end = next;
        atomicMin(&part[g], end);
      });
      __syncthreads();
      changed = m_.scalars->changed != 0;
      __syncthreads();
    }
    for_each(h.num_ranks, [&](int g) {
      int live_before = 0;
      int parts_before = 0;
      int size = 0;
#pragma unroll 4
      for (int other = 0; other < h.num_ranks; ++other) {
        const bool lives = is_alive(other);
        live_before += lives && other < g ? 1 : 0;
        parts_before += lives && other < part[g] && part[other] == other ? 1 : 0;
        size += lives && part[other] == part[g] ? 1 : 0;
      }
      if (is_alive(g)) ids(t_.live_rank)[live_before] = static_cast<std::uint16_t>(g);
      ids(t_.part_of)[g] = is_alive(g) ? static_cast<std::uint16_t>(parts_before) : kNoExpert;
      if (is_alive(g) && part[g] == g) {
        ids(t_.part_size)[parts_before] = static_cast<std::uint16_t>(size);
        atomicAdd(&tables_of().num_parts, 1);
      }
    });
    __syncthreads();
  }

  /// The value of a variable that others lower meanwhile.
  __device__ static int now(int* variable) { return atomicOr(variable, 0); }

  __device__ solvers::BlockState state() const {
    return solvers::BlockState::carve(base() + t_.state, tables_of());
  }

  /// Fills what the solver reads.
  __device__ solvers::BlockState take_loads() {
    const solvers::BlockState s = state();
    for_each(m_.sizes.num_ranks, [&](int g) { s.fixed[g] = 0; });
    if (thread_ == 0) s.rank_load[m_.sizes.num_ranks] = 0x7FFFFFFF;  // nobody's
    __syncthreads();
    for_each(m_.sizes.num_logical, [&](int e) {
      const int k = ids(t_.number_of)[e];
      if (k != kNoExpert) {
        s.want[k] = m_.want[e];
      } else {
        for_holders(e, [&](int rank) { atomicAdd(&s.fixed[rank], m_.want[e]); });
      }
    });
    __syncthreads();
    return s;
  }

  const CopyMemory& m_;
  const CopyTables& t_;
  const Ranks ranks_;
  const int thread_;
};

}  // namespace lplb::replicas
