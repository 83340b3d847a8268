// Uses the installed gradist through its umbrella header: per-example gradients of a small network
// on the bundled digits, and steps by draws from clusters of them.
#include "gradist.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/allclose.h>
#include <ATen/ops/arange.h>

#include <cstdint>
#include <iostream>

namespace {

void train(gradist::NetworkSource& source, at::Generator& generator) {
  const auto clusters = gradist::descent(source, {.clusters = 64}, nullptr, generator);
  const auto design = gradist::stratified_design(clusters, 64, /*replacement=*/true);
  for (int step = 0; step < 100; ++step) {
    const auto [indices, weights] = design.draw(generator);
    const auto gradient = source.weighted_gradient(indices, weights);
    const at::NoGradGuard no_grad;
    for (size_t l = 0; l < gradient.size(); ++l) {
      source.parameters()[l].sub_(gradient[l], 0.1);
    }
  }
}

}  // namespace

int main() {
  at::Generator generator = at::make_generator<at::CPUGeneratorImpl>(uint64_t{0});
  const gradist::Dataset digits = gradist::load_digits().train;
  const gradist::ModelOptions options;
  gradist::NetworkSource source(
      gradist::make_network(options, digits.example_shape(), digits.outputs(), generator), digits,
      gradist::loss_for(options, digits));

  const gradist::GradientBatch batch = source.gradients(at::arange(32));
  const at::Tensor norms = batch.squared_norms();
  std::cout << source.network().describe() << ": squared gradient norms of 32 of "
            << source.examples() << " examples, mean " << norms.mean().item<double>() << "\n";

  const double before = source.evaluate(digits).loss;
  train(source, generator);
  const double after = source.evaluate(digits).loss;
  std::cout << "loss " << before << ", after 100 steps by draws from clusters " << after << "\n";
  return at::allclose(norms, batch.gram(batch).diagonal(), 1e-4) && after < before / 2 ? 0 : 1;
}
