// SPDX-License-Identifier: MIT
#include "solve/level.h"
#include "solve/solvers.h"

namespace lplb::solvers {

void share_evenly(const Tables& tables, Buffers& buffers) {
  buffers.rank_load = buffers.fixed_load;
  for (Index k = 0; k < tables.num_replicated(); ++k) {
    const Index begin = tables.place_begin[k];
    const Index places = tables.place_begin[k + 1] - begin;
    for (Index i = 0; i < places; ++i) {
      buffers.take[begin + i] = buffers.want[k] / places + (i < buffers.want[k] % places);
      buffers.rank_load[tables.place[begin + i].rank] += buffers.take[begin + i];
    }
  }
}

bool level_expert(const Tables& tables, Index k, Buffers& buffers) {
  const Index begin = tables.place_begin[k];
  const Index count = tables.place_begin[k + 1] - begin;
  const SplitProblem::Tables::Place* place = tables.place.data() + begin;
  Load* take = buffers.take.data() + begin;
  Load* rank_load = buffers.rank_load.data();
  const Load want = buffers.want[k];

  if (count == 2 && tables.cost.uniform()) {
    const Load a = rank_load[place[0].rank] - take[0];
    const Load b = rank_load[place[1].rank] - take[1];
    const Load x = level_two(want, a, b);
    const bool changed = x != take[0];
    take[0] = x;
    take[1] = want - x;
    rank_load[place[0].rank] = a + x;
    rank_load[place[1].rank] = b + (want - x);
    return changed;
  }

  Load* other = buffers.level_load.data();
  Load* x = buffers.level_x.data();
  for (Index i = 0; i < count; ++i) other[i] = rank_load[place[i].rank] - take[i];
  if (tables.cost.uniform()) {
    level_uniform(want, count, other, x);
  } else {
    double* speed = buffers.level_speed.data();
    for (Index i = 0; i < count; ++i) speed[i] = tables.cost.speed(place[i].rank);
    level_speeds(want, count, other, speed, x, buffers.level_order.data());
  }
  bool changed = false;
  for (Index i = 0; i < count; ++i) {
    changed = changed || x[i] != take[i];
    take[i] = x[i];
    rank_load[place[i].rank] = other[i] + x[i];
  }
  return changed;
}

}  // namespace lplb::solvers
