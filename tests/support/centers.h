#pragma once

#include "gc/factored_centers.h"
#include "support/factors.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <vector>

/// Centers in factors, and gradients they can be held against.
namespace gradist::test {

/// A layer [3, 4] over positions, a bias [3] and a layer [5, 3].
inline GradientBatch three_parameters(int64_t examples, int64_t positions, uint64_t seed,
                                      at::ScalarType dtype = at::kDouble) {
  GradientBatch batch;
  batch.parameters = {
      normal_factors(examples, positions, 4, 3, seed, dtype),
      FactoredGradients::from_dense(normal({examples, 3}, seed + 1, dtype), {3}, "bias"),
      normal_factors(examples, 1, 3, 5, seed + 2, dtype)};
  return batch;
}

/// Random centers of a rank, or the highest that a parameter can have; each stands for one example.
inline FactoredCenters orthogonal_centers(const GradientBatch& like, int64_t clusters, int64_t rank,
                                          uint64_t seed) {
  FactoredCenters centers;
  centers.weights = at::ones({clusters}, at::kDouble);
  for (const FactoredGradients& g : like.parameters) {
    const auto dtype = g.backprops().scalar_type();
    const auto terms = std::min({rank, g.inputs(), g.outputs()});
    // Orthonormal columns, and their transpose scaled.
    const auto basis =
        std::get<0>(at::linalg_qr(normal({clusters, g.inputs(), terms}, seed, dtype)));
    centers.parameters.push_back({basis.transpose(1, 2).contiguous() * 1.5,
                                  normal({clusters, terms, g.outputs()}, seed + 1, dtype)});
    seed += 2;
  }
  return centers;
}

/// C_k of all parameters end to end, [K, P] float64.
inline at::Tensor formed(const FactoredCenters& centers) {
  std::vector<at::Tensor> pieces;
  for (const auto& [input_side, output_side] : centers.parameters) {
    pieces.push_back(
        at::einsum("kro,kri->koi", {output_side.to(at::kDouble), input_side.to(at::kDouble)})
            .flatten(1));
  }
  return at::cat(pieces, 1);
}

}  // namespace gradist::test
