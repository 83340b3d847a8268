#include "rf/clustering.h"

#include "rf/kernels.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

namespace gradist::rf {

namespace {

/// A cluster smaller than N / (kSmallCluster K) is refilled by a split.
constexpr int64_t kSmallCluster = 16;

/// k-means++ looks at this many examples a cluster.
constexpr int64_t kSeedsPerCluster = 16;

/// Random equal partitions meet the guard's bound about every other time.
constexpr int kMaxCuts = 40;

template <class T>
const detail::RowKernels<T>& row_kernels() {
  return detail::row_kernels<T>(detail::kernels());
}

template <class T>
Rows<double> sums_of(const RankOneGradients<T>& gradients, const std::vector<int32_t>& assignments,
                     int64_t clusters) {
  return cluster_sums(gradients.problem, gradients.residuals, assignments, clusters);
}

/// The examples, cluster by cluster.
std::vector<int32_t> by_cluster(const std::vector<int32_t>& assignments, int64_t clusters) {
  std::vector<int32_t> begin(static_cast<size_t>(clusters) + 1);
  for (const int32_t k : assignments) {
    ++begin[static_cast<size_t>(k) + 1];
  }
  std::partial_sum(begin.begin(), begin.end(), begin.begin());
  std::vector<int32_t> order(assignments.size());
  for (size_t i = 0; i < assignments.size(); ++i) {
    order[static_cast<size_t>(begin[static_cast<size_t>(assignments[i])]++)] =
        static_cast<int32_t>(i);
  }
  return order;
}

double squared_norm(const double* numbers, int64_t count) {
  return std::inner_product(numbers, numbers + count, numbers, 0.0);
}

/// Balanced: sizes differ by at most one.
std::vector<int32_t> cut(const std::vector<int32_t>& order, int64_t clusters) {
  const auto n = static_cast<int64_t>(order.size());
  std::vector<int32_t> assignments(order.size());
  for (int64_t i = 0; i < n; ++i) {
    assignments[static_cast<size_t>(order[static_cast<size_t>(i)])] =
        static_cast<int32_t>(i * clusters / n);
  }
  return assignments;
}

template <class T>
Partition evaluated(const RankOneGradients<T>& gradients, std::vector<int32_t> assignments,
                    const Rows<double>& sums) {
  Partition partition;
  const int64_t clusters = sums.count();
  std::vector<double> norms(static_cast<size_t>(clusters));
  partition.sizes.resize(static_cast<size_t>(clusters));
  for (size_t i = 0; i < assignments.size(); ++i) {
    const auto k = static_cast<size_t>(assignments[i]);
    ++partition.sizes[k];
    norms[k] += gradients.squared_norms[i];
  }
  for (int64_t k = 0; k < clusters; ++k) {
    const double scatter = static_cast<double>(partition.sizes[static_cast<size_t>(k)]) *
                               norms[static_cast<size_t>(k)] -
                           squared_norm(sums.row(k), sums.stride());
    partition.objective += std::max(scatter, 0.0);
  }
  partition.assignments = std::move(assignments);
  return partition;
}

/// J of all examples in one cluster over B: what SG-B's variance is as an objective.
template <class T>
double uniform_objective(const RankOneGradients<T>& gradients, int64_t batch_size) {
  const std::vector<int32_t> together(gradients.residuals.size());
  return evaluated(gradients, together, int64_t{1}).objective / static_cast<double>(batch_size);
}

/// Lloyd's alternation with exact centers.
template <class T>
class Lloyd {
 public:
  Lloyd(const RankOneGradients<T>& gradients, int64_t clusters)
      : gradients_(gradients),
        problem_(gradients.problem),
        clusters_(clusters),
        products_(gradients.residuals.size() * static_cast<size_t>(clusters)) {}

  Partition run(int64_t steps, Words& random) {
    State state = assign(start(random), nullptr);
    std::vector<double> history = {state.partition.objective};
    Partition best = state.partition;
    for (int64_t step = 1; step < steps; ++step) {
      split_smallest(state);
      state = assign(centers_of(state), &state.partition);
      history.push_back(state.partition.objective);
      if (state.partition.objective < best.objective) {
        best = state.partition;
      }
    }
    best.history = std::move(history);
    return best;
  }

  /// One A step from a partition.
  Partition step(const Partition& partition) {
    State state{partition, sums_of(gradients_, partition.assignments, clusters_), {}};
    return assign(centers_of(state), &state.partition).partition;
  }

 private:
  struct State {
    Partition partition;
    Rows<double> sums;              ///< of the members' gradients, [K, P]
    std::vector<double> distances;  ///< squared, of each example to its center, [N]
  };

  /// <psi_i, c_k> for all examples and the centers.
  void multiply(const Rows<T>& centers) {
    row_kernels<T>().dots_many(problem_.psi->data(), problem_.psi->stride(), problem_.index.data(),
                               problem_.examples(), centers.data(), centers.count(),
                               products_.data());
  }

  /// K gradients by k-means++ among a few random examples: each next one with probability
  /// proportional to its squared distance from the nearest one picked. [Arthur07]
  Rows<T> start(Words& random) {
    auto candidates = random_order(problem_.examples(), random);
    const auto wanted = static_cast<size_t>(kSeedsPerCluster * clusters_);
    candidates.resize(std::min(candidates.size(), wanted));
    std::vector<int32_t> rows;
    for (const int32_t candidate : candidates) {
      rows.push_back(problem_.index[static_cast<size_t>(candidate)]);
    }
    const auto norm = [&](size_t c) {
      return gradients_.squared_norms[static_cast<size_t>(candidates[c])];
    };
    const auto residual = [&](size_t c) {
      return gradients_.residuals[static_cast<size_t>(candidates[c])];
    };
    Rows<T> centers(clusters_, problem_.parameters());
    std::vector<double> nearest(rows.size(), std::numeric_limits<double>::infinity());
    std::vector<double> products(rows.size());
    size_t pick = 0;
    for (int64_t k = 0; k < clusters_; ++k) {
      T* center = centers.row(k);
      const T* row = problem_.psi->row(rows[pick]);
      const double r = residual(pick);
      std::transform(row, row + centers.stride(), center,
                     [r](T number) { return static_cast<T>(r) * number; });
      row_kernels<T>().dots(problem_.psi->data(), problem_.psi->stride(), rows.data(),
                            static_cast<int64_t>(rows.size()), center, products.data());
      for (size_t c = 0; c < rows.size(); ++c) {
        const double distance = norm(c) + norm(pick) - 2 * residual(c) * products[c];
        nearest[c] = std::min(nearest[c], std::max(distance, 0.0));
      }
      nearest[pick] = 0;
      pick = drawn(nearest, random);
    }
    return centers;
  }

  /// An example with probability proportional to its weight; any where all weights are zero.
  static size_t drawn(const std::vector<double>& weights, Words& random) {
    const double total = std::accumulate(weights.begin(), weights.end(), 0.0);
    const double target = random.uniform() * total;
    double running = 0;
    size_t last = static_cast<size_t>(random.uniform() * static_cast<double>(weights.size()));
    for (size_t i = 0; i < weights.size() && total > 0; ++i) {
      running += weights[i];
      last = weights[i] > 0 ? i : last;
      if (running > target) {
        break;
      }
    }
    return last;
  }

  Rows<T> centers_of(const State& state) const {
    Rows<T> centers(clusters_, problem_.parameters());
    for (int64_t k = 0; k < clusters_; ++k) {
      const double size = static_cast<double>(state.partition.sizes[static_cast<size_t>(k)]);
      const double* sum = state.sums.row(k);
      std::transform(sum, sum + centers.stride(), centers.row(k), [size](double number) {
        return static_cast<T>(number / std::max(size, 1.0));
      });
    }
    return centers;
  }

  /// Every example goes to the cluster that costs least; without `former` the costs are unweighted.
  State assign(const Rows<T>& centers, const Partition* former) {
    multiply(centers);
    std::vector<double> center_norms(static_cast<size_t>(clusters_));
    for (int64_t k = 0; k < clusters_; ++k) {
      const T* c = centers.row(k);
      center_norms[static_cast<size_t>(k)] = std::inner_product(c, c + centers.stride(), c, 0.0);
    }
    auto sizes = former ? former->sizes : std::vector<int64_t>(center_norms.size(), 0);
    std::vector<int32_t> assignments(gradients_.residuals.size());
    std::vector<double> distances(assignments.size());
    for (size_t i = 0; i < assignments.size(); ++i) {
      if (former != nullptr) {
        --sizes[static_cast<size_t>(former->assignments[i])];
      }
      const double* products = products_.data() + i * center_norms.size();
      double lowest = std::numeric_limits<double>::infinity();
      for (size_t k = 0; k < center_norms.size(); ++k) {
        const double distance = std::max(gradients_.squared_norms[i] + center_norms[k] -
                                             2 * gradients_.residuals[i] * products[k],
                                         0.0);
        const double cost =
            former != nullptr ? static_cast<double>(sizes[k] + 1) * distance : distance;
        if (cost < lowest) {
          lowest = cost;
          assignments[i] = static_cast<int32_t>(k);
          distances[i] = distance;
        }
      }
      ++sizes[static_cast<size_t>(assignments[i])];
    }
    auto sums = sums_of(gradients_, assignments, clusters_);
    auto partition = evaluated(gradients_, std::move(assignments), sums);
    return {std::move(partition), std::move(sums), std::move(distances)};
  }

  /// The far half of the most scattered cluster joins the smallest one, when that is too small.
  void split_smallest(State& state) const {
    auto& [assignments, sizes, objective, history] = state.partition;
    const auto smallest = std::min_element(sizes.begin(), sizes.end()) - sizes.begin();
    if (sizes[static_cast<size_t>(smallest)] * kSmallCluster * clusters_ >= problem_.examples()) {
      return;
    }
    const auto scattered = most_scattered(state);
    std::vector<size_t> members;
    for (size_t i = 0; i < assignments.size(); ++i) {
      if (assignments[i] == scattered) {
        members.push_back(i);
      }
    }
    if (members.size() < 2 || scattered == smallest) {
      return;
    }
    std::stable_sort(members.begin(), members.end(),
                     [&](size_t a, size_t b) { return state.distances[a] > state.distances[b]; });
    members.resize(members.size() / 2);
    for (const size_t i : members) {
      assignments[i] = static_cast<int32_t>(smallest);
    }
    sizes[static_cast<size_t>(scattered)] -= static_cast<int64_t>(members.size());
    sizes[static_cast<size_t>(smallest)] += static_cast<int64_t>(members.size());
    state.sums = sums_of(gradients_, assignments, clusters_);
  }

  int32_t most_scattered(const State& state) const {
    std::vector<double> scatter(static_cast<size_t>(clusters_));
    for (size_t i = 0; i < state.distances.size(); ++i) {
      const auto k = static_cast<size_t>(state.partition.assignments[i]);
      scatter[k] += static_cast<double>(state.partition.sizes[k]) * state.distances[i];
    }
    return static_cast<int32_t>(std::max_element(scatter.begin(), scatter.end()) - scatter.begin());
  }

  const RankOneGradients<T>& gradients_;
  const Problem<T>& problem_;
  int64_t clusters_;
  std::vector<double> products_;  ///< [N, K]
};

/// The last guard, as in gc/guard.h: after a refresh gc is never above SG-B.
template <class T>
Partition guarded(const RankOneGradients<T>& gradients, Partition candidate, int64_t clusters,
                  Words& random) {
  const double bound = uniform_objective(gradients, clusters);
  if (candidate.objective <= bound) {
    return candidate;
  }
  Partition best = std::move(candidate);
  const auto history = best.history;
  const int64_t n = gradients.problem.examples();
  for (int tries = 0; tries < kMaxCuts && best.objective > bound; ++tries) {
    auto balanced = evaluated(gradients, cut(random_order(n, random), clusters), clusters);
    if (balanced.objective < best.objective) {
      best = std::move(balanced);
    }
  }
  Lloyd<T> algorithm(gradients, clusters);
  for (auto next = algorithm.step(best); next.objective < best.objective;
       next = algorithm.step(best)) {
    best = std::move(next);
  }
  best.history = history;
  return best;
}

/// The state of a descent: cluster sums and what J_k = N_k R_k - ||sum_k||^2 is made of.
template <class T>
class Descent {
 public:
  Descent(const RankOneGradients<T>& gradients, std::vector<int32_t> assignments, int64_t clusters)
      : gradients_(gradients),
        assignments_(std::move(assignments)),
        sums_(clusters, gradients.problem.parameters()),
        products_(static_cast<size_t>(clusters)) {
    recount();
  }

  /// One sweep over the examples in the order given; the number of moves.
  int64_t sweep(const std::vector<int32_t>& order) {
    int64_t moves = 0;
    for (const int32_t i : order) {
      moves += move(static_cast<size_t>(i)) ? 1 : 0;
    }
    recount();
    return moves;
  }

  double objective() const {
    double total = 0;
    for (size_t k = 0; k < counts_.size(); ++k) {
      total += std::max(counts_[k] * norms_[k] - squares_[k], 0.0);
    }
    return total;
  }

  std::vector<int32_t> take_assignments() { return std::move(assignments_); }

 private:
  /// Sums in T drift with moves; they are made anew, from float64, after each sweep.
  void recount() {
    const auto exact = sums_of(gradients_, assignments_, sums_.count());
    std::copy(exact.data(), exact.data() + exact.count() * exact.stride(), sums_.data());
    counts_.assign(products_.size(), 0);
    norms_.assign(products_.size(), 0);
    squares_.resize(products_.size());
    for (size_t i = 0; i < assignments_.size(); ++i) {
      counts_[static_cast<size_t>(assignments_[i])] += 1;
      norms_[static_cast<size_t>(assignments_[i])] += gradients_.squared_norms[i];
    }
    for (int64_t k = 0; k < exact.count(); ++k) {
      squares_[static_cast<size_t>(k)] = squared_norm(exact.row(k), exact.stride());
    }
  }

  double scatter(size_t k, double count, double norm, double product) const {
    return (counts_[k] + count) * (norms_[k] + norm) - (squares_[k] + product);
  }

  /// Moves example i to where J falls most, if it falls by more than rounding.
  bool move(size_t i) {
    const auto& problem = gradients_.problem;
    const double r = gradients_.residuals[i];
    const double norm = gradients_.squared_norms[i];
    row_kernels<T>().dots_many(problem.psi->data(), problem.psi->stride(), &problem.index[i], 1,
                               sums_.data(), sums_.count(), products_.data());
    const auto from = static_cast<size_t>(assignments_[i]);
    const double leaving =
        scatter(from, -1, -norm, norm - 2 * r * products_[from]) - scatter(from, 0, 0, 0);
    size_t to = from;
    double best = -kRounding * (std::abs(leaving) + counts_[from] * norms_[from]);
    for (size_t k = 0; k < products_.size(); ++k) {
      const double joining = scatter(k, 1, norm, norm + 2 * r * products_[k]) - scatter(k, 0, 0, 0);
      if (k != from && joining + leaving < best) {
        best = joining + leaving;
        to = k;
      }
    }
    if (to == from) {
      return false;
    }
    shift(i, from, -1);
    shift(i, to, 1);
    assignments_[i] = static_cast<int32_t>(to);
    return true;
  }

  void shift(size_t i, size_t k, double sign) {
    const auto& problem = gradients_.problem;
    const T coefficient = static_cast<T>(sign * gradients_.residuals[i]);
    row_kernels<T>().combine(problem.psi->data(), problem.psi->stride(), &problem.index[i], 1,
                             &coefficient, T{1}, sums_.row(static_cast<int64_t>(k)));
    counts_[k] += sign;
    norms_[k] += sign * gradients_.squared_norms[i];
    squares_[k] += 2 * sign * gradients_.residuals[i] * products_[k] + gradients_.squared_norms[i];
  }

  static constexpr double kRounding = sizeof(T) == 4 ? 1e-6 : 1e-14;

  const RankOneGradients<T>& gradients_;
  std::vector<int32_t> assignments_;
  Rows<T> sums_;
  std::vector<double> products_;                  ///< <psi_i, sum_k>, [K]
  std::vector<double> counts_, norms_, squares_;  ///< N_k, R_k, ||sum_k||^2, [K]
};

}  // namespace

template <class T>
RankOneGradients<T>::RankOneGradients(const Problem<T>& of, const std::vector<double>& values,
                                      const std::vector<double>& row_norms)
    : problem(of), residuals(values), squared_norms(values.size()) {
  for (size_t i = 0; i < values.size(); ++i) {
    squared_norms[i] = values[i] * values[i] * row_norms[i];
  }
}

template <class T>
Rows<double> cluster_sums(const Problem<T>& problem, const std::vector<double>& residuals,
                          const std::vector<int32_t>& assignments, int64_t clusters) {
  Rows<double> sums(clusters, problem.parameters());
  const auto order = by_cluster(assignments, clusters);
  std::vector<int32_t> rows(detail::kBlock);
  std::vector<T> coefficients(detail::kBlock);
  int64_t filled = 0;
  for (size_t place = 0; place < order.size(); ++place) {
    const auto i = static_cast<size_t>(order[place]);
    rows[static_cast<size_t>(filled)] = problem.index[i];
    coefficients[static_cast<size_t>(filled)] = static_cast<T>(residuals[i]);
    ++filled;
    const bool ends = place + 1 == order.size() ||
                      assignments[static_cast<size_t>(order[place + 1])] != assignments[i];
    if (ends || filled == detail::kBlock) {
      row_kernels<T>().accumulate(problem.psi->data(), problem.psi->stride(), rows.data(), filled,
                                  1, coefficients.data(), sums.row(assignments[i]), 0, nullptr,
                                  nullptr);
      filled = 0;
    }
  }
  return sums;
}

std::vector<int32_t> random_order(int64_t n, Words& random) {
  std::vector<int32_t> order(static_cast<size_t>(n));
  std::iota(order.begin(), order.end(), 0);
  for (size_t i = order.size(); i > 1; --i) {
    std::swap(order[i - 1], order[random.below(static_cast<uint32_t>(i))]);
  }
  return order;
}

template <class T>
Partition evaluated(const RankOneGradients<T>& gradients, std::vector<int32_t> assignments,
                    int64_t clusters) {
  const auto sums = sums_of(gradients, assignments, clusters);
  return evaluated(gradients, std::move(assignments), sums);
}

template <class T>
Partition lloyd(const RankOneGradients<T>& gradients, int64_t clusters, int64_t steps,
                Words& random) {
  return guarded(gradients, Lloyd<T>(gradients, clusters).run(steps, random), clusters, random);
}

template <class T>
Partition descent(const RankOneGradients<T>& gradients, int64_t clusters, int64_t sweeps,
                  Words& random) {
  const int64_t n = gradients.problem.examples();
  Descent<T> state(gradients, cut(random_order(n, random), clusters), clusters);
  std::vector<double> history = {state.objective()};
  for (int64_t sweep = 0; sweep < sweeps; ++sweep) {
    const int64_t moves = state.sweep(random_order(n, random));
    history.push_back(state.objective());
    if (moves == 0) {
      break;
    }
  }
  auto partition = evaluated(gradients, state.take_assignments(), clusters);
  partition.history = std::move(history);
  return guarded(gradients, std::move(partition), clusters, random);
}

template Rows<double> cluster_sums(const Problem<float>&, const std::vector<double>&,
                                   const std::vector<int32_t>&, int64_t);
template Rows<double> cluster_sums(const Problem<double>&, const std::vector<double>&,
                                   const std::vector<int32_t>&, int64_t);
template struct RankOneGradients<float>;
template struct RankOneGradients<double>;
template Partition evaluated(const RankOneGradients<float>&, std::vector<int32_t>, int64_t);
template Partition evaluated(const RankOneGradients<double>&, std::vector<int32_t>, int64_t);
template Partition lloyd(const RankOneGradients<float>&, int64_t, int64_t, Words&);
template Partition lloyd(const RankOneGradients<double>&, int64_t, int64_t, Words&);
template Partition descent(const RankOneGradients<float>&, int64_t, int64_t, Words&);
template Partition descent(const RankOneGradients<double>&, int64_t, int64_t, Words&);

}  // namespace gradist::rf
