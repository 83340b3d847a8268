#include "gc/center_update.h"

#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/eye.h>
#include <ATen/ops/isfinite.h>
#include <ATen/ops/linalg_eigh.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/ones_like.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>

#include <algorithm>
#include <chrono>

namespace gradist {
namespace {

/// Columns for one thread at least.
constexpr int64_t kColumns = 1024;

/// Adds row i of [B, n] to row `to[i]` of sums [K, n] float64. at::index_add_ takes float64 alone,
/// and that copy is twice the size of the gradients themselves.
void add_rows(const at::Tensor& sums, const at::Tensor& to, const at::Tensor& rows) {
  const auto values = rows.to(at::kCPU).contiguous();
  const auto columns = values.size(1);
  const auto numbers = to.contiguous();
  const auto* row_of = numbers.const_data_ptr<int64_t>();
  auto* sum = sums.data_ptr<double>();
  AT_DISPATCH_FLOATING_TYPES_AND2(
      at::kHalf, at::kBFloat16, values.scalar_type(), "gradist::add_rows", [&] {
        const auto* value = values.const_data_ptr<scalar_t>();
        at::parallel_for(0, columns, kColumns, [&](int64_t begin, int64_t end) {
          for (int64_t i = 0; i < values.size(0); ++i) {
            auto* __restrict into = sum + row_of[i] * columns;
            for (int64_t j = begin; j < end; ++j) {
              into[j] += static_cast<double>(value[i * columns + j]);
            }
          }
        });
      });
}

/// Adds the one-hot vectors of rows [B, S] to the rows `to` [B] of sums [K, n], without making
/// them.
void add_one_hot(const at::Tensor& sums, const at::Tensor& to, const at::Tensor& rows) {
  const auto places = (to.unsqueeze(1) * sums.size(1) + rows.to(at::kCPU)).flatten();
  sums.view({-1}).scatter_add_(0, places, at::ones_like(places, at::kDouble));
}

}  // namespace

FactorMeans::FactorMeans(const GradientBatch& like, int64_t clusters)
    : sizes_(at::zeros({clusters}, at::kDouble)) {
  for (const auto& parameter : like.parameters) {
    sums_.push_back({at::zeros({clusters, parameter.inputs()}, at::kDouble),
                     at::zeros({clusters, parameter.outputs()}, at::kDouble)});
    options_.push_back(parameter.activations().options());
  }
}

void FactorMeans::add(const GradientBatch& batch, const at::Tensor& assignments) {
  sizes_.index_add_(0, assignments, at::ones_like(assignments, at::kDouble));
  for (size_t l = 0; l < sums_.size(); ++l) {
    const auto& gradients = batch.parameters[l];
    const auto& activations = gradients.activations();
    add_rows(sums_[l].input_side, assignments,
             gradients.positions() == 1 ? activations.select(1, 0) : activations.mean(1));
    if (gradients.one_hot().defined()) {
      add_one_hot(sums_[l].output_side, assignments, gradients.one_hot());
    } else {
      add_rows(sums_[l].output_side, assignments, gradients.backprop_sums());
    }
  }
}

FactoredCenters FactorMeans::centers(const FactoredCenters* former, double decay) const {
  const bool blends = former != nullptr && decay > 0;
  const auto kept = blends ? former->weights * decay : at::zeros_like(sizes_);
  const auto empty = (sizes_ == 0).view({-1, 1, 1});
  FactoredCenters result;
  result.weights = sizes_ + kept;
  const auto counts = result.weights.clamp_min(1).unsqueeze(1);
  const auto side = [&](at::Tensor sum, const at::Tensor* before,
                        const at::TensorOptions& options) {
    if (blends) {
      sum = sum + before->select(1, 0).to(at::kCPU, at::kDouble) * kept.unsqueeze(1);
    }
    const auto mean = (sum / counts).to(options).unsqueeze(1);
    return before != nullptr ? at::where(empty.to(mean.device()), *before, mean) : mean;
  };
  for (size_t l = 0; l < sums_.size(); ++l) {
    const auto* before = former != nullptr ? &former->parameters[l] : nullptr;
    result.parameters.push_back(
        {side(sums_[l].input_side, before ? &before->input_side : nullptr, options_[l]),
         side(sums_[l].output_side, before ? &before->output_side : nullptr, options_[l])});
  }
  return result;
}

TruncatedMeans::TruncatedMeans(const GradientBatch& like, int64_t clusters, int64_t rank,
                               const FactoredCenters* former, double decay)
    : former_(former), decay_(former != nullptr ? decay : 0) {
  for (size_t l = 0; l < like.parameters.size(); ++l) {
    const auto& parameter = like.parameters[l];
    const auto I = parameter.inputs(), O = parameter.outputs();
    const auto options = parameter.activations().options();
    sums_.push_back(at::zeros({O, I}, options.dtype(at::kDouble)));
    if (former != nullptr) {
      centers_.parameters.push_back(
          {former->parameters[l].input_side.clone(), former->parameters[l].output_side.clone()});
    } else {
      const auto terms = std::min({rank, I, O});
      centers_.parameters.push_back(
          {at::zeros({clusters, terms, I}, options), at::zeros({clusters, terms, O}, options)});
    }
  }
  centers_.weights =
      former != nullptr ? former->weights * decay_ : at::zeros({clusters}, at::kDouble);
}

void TruncatedMeans::add(const GradientBatch& batch, const std::vector<Segment>& segments) {
  for (const auto& segment : segments) {
    const auto members = batch.slice(segment.begin, segment.end);
    for (size_t l = 0; l < sums_.size(); ++l) {
      sums_[l] += members.parameters[l].sum().reshape_as(sums_[l]);
    }
    members_ += segment.end - segment.begin;
    if (segment.last) {
      close(segment.stratum);
    }
  }
}

void TruncatedMeans::close(int64_t cluster) {
  const auto start = std::chrono::steady_clock::now();
  const auto before = decay_ > 0 ? centers_.weights[cluster].item<double>() : 0.0;
  const auto total = before + static_cast<double>(members_);
  for (size_t l = 0; l < sums_.size(); ++l) {
    auto& [input_side, output_side] = centers_.parameters[l];
    if (before > 0) {
      const auto& former = former_->parameters[l];
      sums_[l].add_(at::mm(former.output_side[cluster].to(at::kDouble).t(),
                           former.input_side[cluster].to(at::kDouble)),
                    before);
    }
    const auto nearest = nearest_of_rank((sums_[l] / total).to(at::kCPU), input_side.size(1));
    input_side.select(0, cluster).copy_(nearest.input_side);
    output_side.select(0, cluster).copy_(nearest.output_side);
    sums_[l].zero_();
  }
  centers_.weights.select(0, cluster).fill_(total);
  members_ = 0;
  svd_seconds_ += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

FactoredCenters::Factors nearest_of_rank(const at::Tensor& matrix, int64_t rank) {
  const auto O = matrix.size(0), I = matrix.size(1);
  const bool wide = O <= I;
  const auto M = wide ? matrix : matrix.t();  // the short side first
  auto basis = at::eye(M.size(0), matrix.options());
  if (rank < M.size(0) && at::isfinite(M).all().item<bool>()) {
    // Eigenvalues ascend. What is not finite has none, and shows in the other side.
    const auto vectors = std::get<1>(at::linalg_eigh(at::mm(M, M.t())));
    basis = vectors.slice(1, M.size(0) - rank).flip(1).t();
  }
  basis = basis.slice(0, 0, rank);
  const auto other = at::mm(basis, M);
  return wide ? FactoredCenters::Factors{other, basis} : FactoredCenters::Factors{basis, other};
}

}  // namespace gradist
