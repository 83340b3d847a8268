#include "gc/moves.h"

#include "gc/clustering.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/randperm.h>

#include <algorithm>
#include <array>
#include <iterator>
#include <numeric>
#include <utility>

namespace gradist {
namespace {

/// N_k SSE_k below this part of N_k R_k is the rounding of the sums it is the difference of.
constexpr double kRoundingOfSums = 1e-12;

/// The smallest of the values; several at a time, where std::min_element waits for each comparison.
double least_of(const std::vector<double>& values) {
  constexpr size_t kLanes = 8;
  std::array<double, kLanes> lanes;
  lanes.fill(values.front());
  size_t k = 0;
  for (; k + kLanes <= values.size(); k += kLanes) {
    for (size_t lane = 0; lane < kLanes; ++lane) {
      lanes[lane] = std::min(lanes[lane], values[k + lane]);
    }
  }
  for (; k < values.size(); ++k) {
    lanes[0] = std::min(lanes[0], values[k]);
  }
  return *std::ranges::min_element(lanes);
}

/// N_k, R_k and the clusters of all examples while they move.
class Descent {
 public:
  Descent(ClusterProducts& products, const at::Tensor& start, int64_t clusters, bool balanced)
      : products_(products),
        clusters_(clusters),
        balanced_(balanced),
        assignments_(start.to(at::kCPU, at::kLong).contiguous().clone()),
        norms_(at::empty({start.numel()}, at::kDouble)),
        costs_(static_cast<size_t>(clusters)) {}

  /// Reads all examples once, in the order given.
  void start(const at::Tensor& order) {
    for (const auto& block : order.split(kBlockOfMoves)) {
      products_.read(block);
      norms_.index_copy_(0, block, products_.squared_norms());
      products_.place(assignments_.index_select(0, block));
    }
    recount();
  }

  /// Visits all examples once; the number that moved.
  int64_t sweep(const at::Tensor& order) {
    int64_t moves = 0;
    for (const auto& block : order.split(kBlockOfMoves)) {
      products_.read(block);
      moves += balanced_ ? visit_in_pairs(block) : visit(block);
    }
    recount();
    return moves;
  }

  double objective() const { return objective_; }

  /// J over its mean over random partitions of equal sizes, as far as K << N.
  double objective_over_random() const {
    const auto squares = std::accumulate(squares_.begin(), squares_.end(), 0.0);
    const auto norms = static_cast<double>(assignments_.numel()) * squares;
    const auto together = norms - products_.total_norm();
    return together > products_.rounding() * norms
               ? std::min(objective_ * static_cast<double>(clusters_) / together, 1.0)
               : 1.0;
  }

  const at::Tensor& assignments() const { return assignments_; }

 private:
  void recount() {
    const auto sum_norms = products_.sum_norms();
    const auto clusters = static_cast<size_t>(clusters_);
    sizes_.assign(clusters, 0);
    squares_.assign(clusters, 0);
    const auto* assigned = assignments_.const_data_ptr<int64_t>();
    const auto* norms = norms_.const_data_ptr<double>();
    for (int64_t i = 0; i < assignments_.numel(); ++i) {
      sizes_[static_cast<size_t>(assigned[i])] += 1;
      squares_[static_cast<size_t>(assigned[i])] += norms[i];
    }
    objective_ = 0;
    for (size_t k = 0; k < clusters; ++k) {
      const auto norms_here = sizes_[k] * squares_[k];
      const auto scatter = norms_here - sum_norms[static_cast<int64_t>(k)].item<double>();
      objective_ += scatter <= kRoundingOfSums * norms_here ? 0.0 : scatter;
    }
  }

  int64_t visit(const at::Tensor& block) {
    const auto with_sums = products_.with_sums();
    const auto* examples = block.const_data_ptr<int64_t>();
    const auto size = block.numel();
    std::vector<int64_t> expected;
    for (int64_t row = 0; row < size; ++row) {
      if (cheapest(examples[row], row, with_sums) != cluster_of(examples[row])) {
        expected.push_back(row);
      }
    }
    products_.expect(expected);
    int64_t moves = 0;
    for (int64_t row = 0; row < size; ++row) {
      const auto to = cheapest(examples[row], row, with_sums);
      if (to != cluster_of(examples[row])) {
        move(examples[row], row, to, with_sums, row + 1);
        ++moves;
      }
    }
    return moves;
  }

  /// The same by exchanges between two examples of the block, which leave the sizes as they are.
  int64_t visit_in_pairs(const at::Tensor& block) {
    const auto with_sums = products_.with_sums();
    const auto* examples = block.const_data_ptr<int64_t>();
    std::vector<int64_t> all(static_cast<size_t>(block.numel()));
    std::iota(all.begin(), all.end(), 0);
    products_.expect(all);
    int64_t exchanges = 0;
    for (const auto row : all) {
      const auto partner = best_partner(block, row, with_sums);
      if (partner == row) {
        continue;
      }
      const auto i = examples[row], j = examples[partner];
      const auto of_i = cluster_of(i), of_j = cluster_of(j);
      move(i, row, of_j, with_sums, 0);
      move(j, partner, of_i, with_sums, 0);
      ++exchanges;
    }
    return exchanges;
  }

  /// The example of the block with whom an exchange of clusters lowers J most; the row itself where
  /// none does. For i in k and j in l, with c_k(i) = sum_{m in k} ||x_i - x_m||^2, it changes J by
  ///   c_l(i) - c_k(i) + c_k(j) - c_l(j) - 2 ||x_i - x_j||^2.
  int64_t best_partner(const at::Tensor& block, int64_t row, const at::Tensor& with_sums) const {
    const auto* examples = block.const_data_ptr<int64_t>();
    const auto* assigned = assignments_.const_data_ptr<int64_t>();
    const auto* norms = norms_.const_data_ptr<double>();
    const auto* inner = products_.within_block(row);
    const auto cost = [&](int64_t r, int64_t k) {
      const auto cluster = static_cast<size_t>(k);
      return sizes_[cluster] * norms[examples[r]] + squares_[cluster] -
             2 * with_sums.const_data_ptr<double>()[r * clusters_ + k];
    };
    const auto own = assigned[examples[row]];
    const auto norm = norms[examples[row]];
    const auto stay = cost(row, own);
    auto best = row;
    double lowest = 0;
    for (int64_t r = 0; r < block.numel(); ++r) {
      const auto other = assigned[examples[r]];
      if (other == own) {
        continue;
      }
      const auto theirs = cost(r, other);
      const auto distance = norm + norms[examples[r]] - 2 * inner[r];
      const auto change = cost(row, other) - stay + cost(r, own) - theirs - 2 * distance;
      const auto rounding = products_.rounding() * (stay + theirs + norm * sizes_[0]);
      if (change < std::min(lowest, -rounding)) {
        lowest = change;
        best = r;
      }
    }
    return best;
  }

  int64_t cluster_of(int64_t example) const {
    return assignments_.const_data_ptr<int64_t>()[example];
  }

  /// `asked_from`: the first row of the block whose products are asked for again.
  void move(int64_t example, int64_t row, int64_t to, const at::Tensor& with_sums,
            int64_t asked_from) {
    const auto* within = products_.within_block(row);
    auto& cluster = assignments_.data_ptr<int64_t>()[example];
    const auto norm = norms_.const_data_ptr<double>()[example];
    for (const auto& [k, sign] : {std::pair{cluster, -1.0}, std::pair{to, 1.0}}) {
      sizes_[static_cast<size_t>(k)] += sign;
      squares_[static_cast<size_t>(k)] += sign * norm;
      add_to_column(with_sums, k, sign, within, asked_from);
    }
    products_.move(row, cluster, to);
    cluster = to;
  }

  /// The cluster of least N_k ||x||^2 + R_k - 2 <x, s_k>, which is the same sum of squared
  /// distances for the own cluster, from which the example needs no taking out.
  int64_t cheapest(int64_t example, int64_t row, const at::Tensor& products) {
    const auto* with_sums = products.const_data_ptr<double>() + row * clusters_;
    const auto norm = norms_.const_data_ptr<double>()[example];
    const auto own = static_cast<size_t>(cluster_of(example));
    for (size_t k = 0; k < costs_.size(); ++k) {
      costs_[k] = sizes_[k] * norm + squares_[k] - 2 * with_sums[k];
    }
    const auto least = std::ranges::find(costs_, least_of(costs_)) - costs_.begin();
    const auto rounding = rounding_of(own, norm);
    if (costs_[static_cast<size_t>(least)] < costs_[own] - rounding) {
      return least;
    }
    return static_cast<int64_t>(costs_[own] <= rounding ? gathered(own, norm) : own);
  }

  /// For an example whose cluster holds its copies only: of all such clusters the largest, so that
  /// copies end up in one, and the others are free.
  size_t gathered(size_t own, double norm) const {
    auto largest = own;
    for (size_t k = 0; k < costs_.size(); ++k) {
      const bool copies = k != own && costs_[k] <= rounding_of(k, norm);
      // One of its own size too, or two halves would never meet.
      const bool larger =
          sizes_[k] > sizes_[largest] || (largest == own && sizes_[k] == sizes_[own]);
      if (copies && larger) {
        largest = k;
      }
    }
    return largest;
  }

  double rounding_of(size_t k, double norm) const {
    return products_.rounding() * (sizes_[k] * norm + squares_[k]);
  }

  /// products[from:, k] += sign x[from:] for x [n].
  static void add_to_column(const at::Tensor& products, int64_t k, double sign, const double* x,
                            int64_t from) {
    auto* column = products.data_ptr<double>() + k;
    const auto rows = products.size(0), stride = products.stride(0);
    for (int64_t r = from; r < rows; ++r) {
      column[r * stride] += sign * x[r];
    }
  }

  ClusterProducts& products_;
  int64_t clusters_;
  bool balanced_;
  at::Tensor assignments_;  ///< [N] int64
  at::Tensor norms_;        ///< ||x_i||^2, [N] float64
  double objective_ = 0;
  std::vector<double> sizes_, squares_;  ///< N_k, and R_k, [K]
  std::vector<double> costs_;            ///< [K]
};

}  // namespace

Moved descend_by_moves(ClusterProducts& products, const at::Tensor& start, int64_t clusters,
                       const std::vector<at::Tensor>& orders, bool balanced, double least_gain) {
  Descent descent(products, start, clusters, balanced);
  descent.start(orders.front());
  Moved moved{descent.assignments().clone(), {descent.objective()}};
  for (const auto& order : orders) {
    const auto moves = descent.sweep(order);
    // The rounding of many small moves may outweigh what they gained.
    if (descent.objective() > moved.history.back()) {
      break;
    }
    const auto gain = moved.history.back() - descent.objective();
    const bool worthwhile = gain >= least_gain * moved.history.back();
    moved.assignments = descent.assignments().clone();
    moved.history.push_back(descent.objective());
    if (moves == 0 || !worthwhile) {
      break;
    }
  }
  return moved;
}

double objective_over_random(ClusterProducts& products, const at::Tensor& assignments,
                             int64_t clusters) {
  Descent descent(products, assignments, clusters, /*balanced=*/false);
  descent.start(at::arange(assignments.numel(), at::kLong));
  return descent.objective_over_random();
}

Moved descend_rows(const at::Tensor& rows, int64_t clusters, int64_t sweeps,
                   at::Generator& generator) {
  TORCH_CHECK_VALUE(rows.dim() == 2 && at::isFloatingType(rows.scalar_type()),
                    "rows must be a matrix of floating point numbers, one row an example, not ",
                    rows.scalar_type(), " ", rows.sizes());
  TORCH_CHECK_VALUE(clusters >= 1 && clusters <= rows.size(0), "clusters = ", clusters,
                    ": must lie in [1, ", rows.size(0), "], the number of examples");
  TORCH_CHECK_VALUE(sweeps >= 1, "sweeps = ", sweeps, ": must be >= 1");
  const auto order = [&] {
    return at::randperm(rows.size(0), generator, at::TensorOptions().dtype(at::kLong));
  };
  const auto start = balanced_clustering(order(), clusters);
  std::vector<at::Tensor> orders;
  std::generate_n(std::back_inserter(orders), sweeps, order);
  const auto products = products_of_rows(
      [&](const at::Tensor& block) { return rows.index_select(0, block); }, clusters);
  return descend_by_moves(*products, start.assignments(), clusters, orders,
                          /*balanced=*/false, kLeastGainOfSketches);
}

}  // namespace gradist
