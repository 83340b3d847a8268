#include "gc/cluster_products.h"

#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>

#include <array>
#include <numeric>
#include <utility>

namespace gradist {
namespace {

/// Parts of a product of matrices, the same for any number of threads.
constexpr int64_t kParts = 2;

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

/// x . y summed in type Sum, in a fixed order that the compiler may vectorise.
template <typename Sum, typename Scalar>
double inner(const Scalar* x, const Scalar* y, int64_t n) {
  constexpr int64_t kLanes = 16;
  std::array<Sum, kLanes> lanes{};
  int64_t j = 0;
  for (; j + kLanes <= n; j += kLanes) {
    for (int64_t lane = 0; lane < kLanes; ++lane) {
      lanes[static_cast<size_t>(lane)] +=
          static_cast<Sum>(x[j + lane]) * static_cast<Sum>(y[j + lane]);
    }
  }
  double sum = 0;
  for (; j < n; ++j) {
    sum += static_cast<double>(x[j]) * static_cast<double>(y[j]);
  }
  return std::accumulate(lanes.begin(), lanes.end(), sum);
}

class RowProducts final : public ClusterProducts {
 public:
  RowProducts(RowReader rows, int64_t clusters) : rows_(std::move(rows)), clusters_(clusters) {}

  void read(const at::Tensor& block) override {
    apply_changes();
    block_ = rows_(block).contiguous();
    if (!sums_.defined()) {
      sums_ = at::zeros({clusters_, block_.size(1)}, at::kDouble);
    }
  }

  at::Tensor squared_norms() override {
    auto norms = at::empty({block_.size(0)}, at::kDouble);
    AT_DISPATCH_FLOATING_TYPES(block_.scalar_type(), "squared_norms", [&] {
      const auto* x = block_.const_data_ptr<scalar_t>();
      auto* norm = norms.data_ptr<double>();
      const auto width = block_.size(1);
      at::parallel_for(0, block_.size(0), kGrain / width + 1, [&](int64_t begin, int64_t end) {
        for (int64_t row = begin; row < end; ++row) {
          norm[row] = inner<double>(x + row * width, x + row * width, width);
        }
      });
    });
    return norms;
  }

  double rounding() const override { return block_.scalar_type() == at::kDouble ? 1e-13 : 1e-6; }

  at::Tensor with_sums() override { return product(block_, rounded_sums_); }

  void expect(const std::vector<int64_t>& rows) override {
    // For a few rows a product of matrices takes longer than their inner products.
    const bool together = rows.size() > kRowsAlone;
    expected_.assign(static_cast<size_t>(block_.size(0)), nullptr);
    if (!together) {
      return;
    }
    within_ = product(block_.index_select(0, at::tensor(rows, at::kLong)), block_);
    for (size_t r = 0; r < rows.size(); ++r) {
      expected_[static_cast<size_t>(rows[r])] =
          within_.const_data_ptr<double>() + static_cast<int64_t>(r) * within_.size(1);
    }
  }

  const double* within_block(int64_t row) override {
    const auto* products = expected_[static_cast<size_t>(row)];
    return products != nullptr ? products : alone(row);
  }

  void move(int64_t row, int64_t from, int64_t to) override {
    changes_.push_back({row, from, -1});
    changes_.push_back({row, to, 1});
  }

  void place(const at::Tensor& clusters) override {
    const auto* cluster = clusters.const_data_ptr<int64_t>();
    for (int64_t row = 0; row < clusters.numel(); ++row) {
      changes_.push_back({row, cluster[row], 1});
    }
    apply_changes();
  }

  at::Tensor sum_norms() override {
    apply_changes();
    rounded_sums_ = sums_.to(block_.scalar_type(), /*non_blocking=*/false, /*copy=*/true);
    return sums_.square().sum(1);
  }

  double total_norm() override { return sums_.sum(0).square().sum().item<double>(); }

 private:
  static constexpr size_t kRowsAlone = 8;
  static constexpr int64_t kGrain = int64_t{1} << 15;  ///< numbers worth a thread

  struct Change {
    int64_t row, cluster;
    double sign;
  };

  /// Sums only matter to the next block, so those of all moves of one are brought up to date at
  /// once.
  void apply_changes() {
    if (changes_.empty()) {
      return;
    }
    AT_DISPATCH_FLOATING_TYPES(block_.scalar_type(), "apply_changes", [&] {
      const auto width = block_.size(1);
      const auto* x = block_.const_data_ptr<scalar_t>();
      auto* sums = sums_.data_ptr<double>();
      auto* rounded = rounded_sums_.defined() ? rounded_sums_.data_ptr<scalar_t>() : nullptr;
      const auto grain = kGrain / static_cast<int64_t>(changes_.size()) + 1;
      // Each thread has columns of its own, so there is one order for every number of threads.
      at::parallel_for(0, width, grain, [&](int64_t begin, int64_t end) {
        for (const auto& [row, cluster, sign] : changes_) {
          for (int64_t j = begin; j < end; ++j) {
            auto& sum = sums[cluster * width + j];
            sum += sign * static_cast<double>(x[row * width + j]);
            if (rounded != nullptr) {
              rounded[cluster * width + j] = static_cast<scalar_t>(sum);
            }
          }
        }
      });
    });
    changes_.clear();
  }

  const double* alone(int64_t row) {
    const auto size = block_.size(0), width = block_.size(1);
    row_within_.resize(static_cast<size_t>(size));
    AT_DISPATCH_FLOATING_TYPES(block_.scalar_type(), "within_block", [&] {
      const auto* x = block_.const_data_ptr<scalar_t>();
      for (int64_t r = 0; r < size; ++r) {
        row_within_[static_cast<size_t>(r)] =
            inner<scalar_t>(x + row * width, x + r * width, width);
      }
    });
    return row_within_.data();
  }

  RowReader rows_;
  int64_t clusters_;
  at::Tensor block_;                     ///< [n, D]
  at::Tensor sums_;                      ///< s_k, [K, D] float64
  at::Tensor rounded_sums_;              ///< the same in the dtype of the rows
  at::Tensor within_;                    ///< of the expected rows, [., n] float64
  std::vector<const double*> expected_;  ///< [n] rows of it, nullptr for others
  std::vector<Change> changes_;          ///< of the sums, by moves in this block
  std::vector<double> row_within_;       ///< [n]
};

class GramProducts final : public ClusterProducts {
 public:
  GramProducts(at::Tensor gram, int64_t clusters)
      : gram_(std::move(gram)),
        products_(at::zeros({clusters, gram_.size(0)}, at::kDouble)),
        assignments_(at::zeros({gram_.size(0)}, at::kLong)) {}

  void read(const at::Tensor& block) override {
    block_ = block.contiguous();
    within_.reset();
  }

  at::Tensor squared_norms() override { return gram_.diagonal().index_select(0, block_); }

  double rounding() const override { return 1e-13; }

  at::Tensor with_sums() override { return products_.index_select(1, block_).t().contiguous(); }

  void expect(const std::vector<int64_t>& /*rows*/) override {}

  const double* within_block(int64_t row) override {
    within_ = within_.defined() ? within_ : gram_.index_select(0, block_).index_select(1, block_);
    return within_.const_data_ptr<double>() + row * within_.size(1);
  }

  void move(int64_t row, int64_t from, int64_t to) override {
    const auto example = block_.const_data_ptr<int64_t>()[row];
    const auto moved = gram_.select(0, example);
    products_.select(0, from).sub_(moved);
    products_.select(0, to).add_(moved);
    assignments_.data_ptr<int64_t>()[example] = to;
  }

  void place(const at::Tensor& clusters) override {
    products_.index_add_(0, clusters, gram_.index_select(0, block_));
    assignments_.index_copy_(0, block_, clusters);
  }

  at::Tensor sum_norms() override {
    return at::zeros({products_.size(0)}, at::kDouble)
        .index_add_(0, assignments_, products_.gather(0, assignments_.unsqueeze(0)).squeeze(0));
  }

  double total_norm() override { return products_.sum().item<double>(); }

 private:
  at::Tensor gram_;         ///< [N, N]
  at::Tensor products_;     ///< <s_k, g_i>, [K, N]
  at::Tensor assignments_;  ///< [N]
  at::Tensor block_, within_;
};

}  // namespace

std::unique_ptr<ClusterProducts> products_of_rows(RowReader rows, int64_t clusters) {
  return std::make_unique<RowProducts>(std::move(rows), clusters);
}

std::unique_ptr<ClusterProducts> products_of_gram(at::Tensor gram, int64_t clusters) {
  return std::make_unique<GramProducts>(std::move(gram), clusters);
}

}  // namespace gradist
