#include "gc/moves.h"

#include "gc/clustering.h"

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/randperm.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <iterator>
#include <utility>

namespace gradist {
namespace {

/// Examples whose products with all sums are formed together; moves within a block correct them.
constexpr int64_t kBlock = 128;

/// Parts of a product of matrices, the same for any number of threads.
constexpr int64_t kParts = 4;

/// x y^T [n, m], the rows of x in kParts parts. One part on one thread, so that BLAS has no choice
/// of its own.
at::Tensor product(const at::Tensor& x, const at::Tensor& y) {
  auto result = at::empty({x.size(0), y.size(0)}, x.options());
  const auto n = x.size(0);
  at::parallel_for(0, kParts, 1, [&](int64_t first, int64_t last) {
    const at::NoGradGuard no_grad;
    for (int64_t part = first; part < last; ++part) {
      const auto begin = part * n / kParts;
      const auto end = (part + 1) * n / kParts;
      if (begin < end) {
        auto rows = result.slice(0, begin, end);
        at::mm_out(rows, x.slice(0, begin, end), y.t());
      }
    }
  });
  return result.to(at::kDouble);
}

class RowProducts final : public ClusterProducts {
 public:
  RowProducts(RowReader rows, int64_t clusters) : rows_(std::move(rows)), clusters_(clusters) {}

  at::Tensor read(const at::Tensor& block) override {
    block_ = rows_(block).contiguous();
    if (!counted_.defined()) {
      counted_ = at::zeros({clusters_, block_.size(1)}, at::kDouble);
    }
    return block_.to(at::kDouble).square().sum(1);
  }

  double rounding() const override { return block_.scalar_type() == at::kDouble ? 1e-13 : 1e-6; }

  at::Tensor with_sums() override { return product(block_, sums_); }
  at::Tensor within_block() override { return product(block_, block_); }

  void move(int64_t row, int64_t from, int64_t to) override {
    const auto moved = block_.select(0, row);
    sums_.select(0, from).sub_(moved);
    sums_.select(0, to).add_(moved);
  }

  void count(const at::Tensor& clusters) override {
    counted_.index_add_(0, clusters, block_.to(at::kDouble));
  }

  // Sums that moves have changed drift by rounding; those counted do not.
  at::Tensor recount() override {
    auto norms = counted_.square().sum(1);
    sums_ = counted_.to(block_.scalar_type(), /*non_blocking=*/false, /*copy=*/true);
    counted_.zero_();
    return norms;
  }

 private:
  RowReader rows_;
  int64_t clusters_;
  at::Tensor block_;    ///< [n, D]
  at::Tensor sums_;     ///< s_k, [K, D], dtype of the rows
  at::Tensor counted_;  ///< [K, D] float64
};

class GramProducts final : public ClusterProducts {
 public:
  GramProducts(at::Tensor gram, int64_t clusters)
      : gram_(std::move(gram)),
        products_(at::zeros({clusters, gram_.size(0)}, at::kDouble)),
        assignments_(at::zeros({gram_.size(0)}, at::kLong)) {}

  at::Tensor read(const at::Tensor& block) override {
    block_ = block;
    return gram_.diagonal().index_select(0, block);
  }

  double rounding() const override { return 1e-13; }

  at::Tensor with_sums() override { return products_.index_select(1, block_).t().contiguous(); }
  at::Tensor within_block() override {
    return gram_.index_select(0, block_).index_select(1, block_);
  }

  void move(int64_t row, int64_t from, int64_t to) override {
    const auto moved = gram_.select(0, block_[row].item<int64_t>());
    products_.select(0, from).sub_(moved);
    products_.select(0, to).add_(moved);
  }

  void count(const at::Tensor& clusters) override { assignments_.index_copy_(0, block_, clusters); }

  at::Tensor recount() override {
    products_.zero_().index_add_(0, assignments_, gram_);
    return at::zeros({products_.size(0)}, at::kDouble)
        .index_add_(0, assignments_, products_.gather(0, assignments_.unsqueeze(0)).squeeze(0));
  }

 private:
  at::Tensor gram_;         ///< [N, N]
  at::Tensor products_;     ///< <s_k, g_i>, [K, N]
  at::Tensor assignments_;  ///< as counted, [N]
  at::Tensor block_;
};

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
    for (const auto& block : order.split(kBlock)) {
      norms_.index_copy_(0, block, products_.read(block));
      products_.count(assignments_.index_select(0, block));
    }
    recount();
  }

  /// Visits all examples once; the number that moved.
  int64_t sweep(const at::Tensor& order) {
    int64_t moves = 0;
    for (const auto& block : order.split(kBlock)) {
      products_.read(block);
      moves += balanced_ ? visit_in_pairs(block) : visit(block);
      products_.count(assignments_.index_select(0, block));
    }
    recount();
    return moves;
  }

  double objective() const { return objective_; }
  const at::Tensor& assignments() const { return assignments_; }

 private:
  void recount() {
    const auto sum_norms = products_.recount();
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
      const auto squared = sum_norms[static_cast<int64_t>(k)].item<double>();
      objective_ += std::max(sizes_[k] * squares_[k] - squared, 0.0);
    }
  }

  int64_t visit(const at::Tensor& block) {
    const auto with_sums = products_.with_sums();
    at::Tensor within;
    int64_t moves = 0;
    for (int64_t row = 0; row < block.numel(); ++row) {
      const auto i = block[row].item<int64_t>();
      const auto own = assignments_.const_data_ptr<int64_t>()[i];
      const auto to = cheapest(with_sums.const_data_ptr<double>() + row * clusters_,
                               norms_.const_data_ptr<double>()[i], static_cast<size_t>(own));
      if (to == own) {
        continue;
      }
      within = within.defined() ? within : products_.within_block();
      move(i, row, to, with_sums, within);
      ++moves;
    }
    return moves;
  }

  /// The same by exchanges between two examples of the block, which leave the sizes as they are.
  int64_t visit_in_pairs(const at::Tensor& block) {
    const auto with_sums = products_.with_sums();
    const auto within = products_.within_block();
    int64_t exchanges = 0;
    for (int64_t row = 0; row < block.numel(); ++row) {
      const auto partner = best_partner(block, row, with_sums, within);
      if (partner == row) {
        continue;
      }
      const auto i = block[row].item<int64_t>(), j = block[partner].item<int64_t>();
      const auto of_i = assignments_[i].item<int64_t>(), of_j = assignments_[j].item<int64_t>();
      move(i, row, of_j, with_sums, within);
      move(j, partner, of_i, with_sums, within);
      ++exchanges;
    }
    return exchanges;
  }

  /// The example of the block with whom an exchange of clusters lowers J most; the row itself where
  /// none does. For i in k and j in l, with c_k(i) = sum_{m in k} ||x_i - x_m||^2, it changes J by
  ///   c_l(i) - c_k(i) + c_k(j) - c_l(j) - 2 ||x_i - x_j||^2.
  int64_t best_partner(const at::Tensor& block, int64_t row, const at::Tensor& with_sums,
                       const at::Tensor& within) const {
    const auto* examples = block.const_data_ptr<int64_t>();
    const auto* assigned = assignments_.const_data_ptr<int64_t>();
    const auto* norms = norms_.const_data_ptr<double>();
    const auto* inner = within.const_data_ptr<double>() + row * block.numel();
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

  void move(int64_t example, int64_t row, int64_t to, const at::Tensor& with_sums,
            const at::Tensor& within) {
    auto& cluster = assignments_.data_ptr<int64_t>()[example];
    const auto norm = norms_.const_data_ptr<double>()[example];
    for (const auto& [k, sign] : {std::pair{cluster, -1.0}, std::pair{to, 1.0}}) {
      sizes_[static_cast<size_t>(k)] += sign;
      squares_[static_cast<size_t>(k)] += sign * norm;
      with_sums.select(1, k).add_(within.select(1, row), sign);
    }
    products_.move(row, cluster, to);
    cluster = to;
  }

  /// The cluster of least N_k ||x||^2 + R_k - 2 <x, s_k>, which is the same sum of squared
  /// distances for the own cluster, from which the example needs no taking out.
  int64_t cheapest(const double* with_sums, double norm, size_t own) {
    for (size_t k = 0; k < costs_.size(); ++k) {
      costs_[k] = sizes_[k] * norm + squares_[k] - 2 * with_sums[k];
    }
    const auto least = std::min_element(costs_.begin(), costs_.end()) - costs_.begin();
    const auto rounding = products_.rounding() * (sizes_[own] * norm + squares_[own]);
    return costs_[static_cast<size_t>(least)] < costs_[own] - rounding ? least
                                                                       : static_cast<int64_t>(own);
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

std::unique_ptr<ClusterProducts> products_of_rows(RowReader rows, int64_t clusters) {
  return std::make_unique<RowProducts>(std::move(rows), clusters);
}

std::unique_ptr<ClusterProducts> products_of_gram(at::Tensor gram, int64_t clusters) {
  return std::make_unique<GramProducts>(std::move(gram), clusters);
}

Moved descend_by_moves(ClusterProducts& products, const at::Tensor& start, int64_t clusters,
                       const std::vector<at::Tensor>& orders, bool balanced) {
  Descent descent(products, start, clusters, balanced);
  descent.start(orders.front());
  Moved moved{descent.assignments().clone(), {descent.objective()}};
  for (const auto& order : orders) {
    const auto moves = descent.sweep(order);
    // The rounding of many small moves may outweigh what they gained.
    if (descent.objective() > moved.history.back()) {
      break;
    }
    moved.assignments = descent.assignments().clone();
    moved.history.push_back(descent.objective());
    if (moves == 0) {
      break;
    }
  }
  return moved;
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
  return descend_by_moves(*products, start.assignments(), clusters, orders);
}

}  // namespace gradist
