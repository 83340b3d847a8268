// Uses the installed gradist through its umbrella header: per-example gradients of a small network
// on the bundled digits.
#include "gradist.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/ops/allclose.h>
#include <ATen/ops/arange.h>

#include <cstdint>
#include <iostream>

int main() {
  at::Generator generator = at::make_generator<at::CPUGeneratorImpl>(uint64_t{0});
  const gradist::Dataset train = gradist::load_digits().train;
  const gradist::ModelOptions options;
  gradist::NetworkSource source(
      gradist::make_network(options, train.example_shape(), train.outputs(), generator), train,
      gradist::loss_for(options, train));

  const gradist::GradientBatch batch = source.gradients(at::arange(32));
  const at::Tensor norms = batch.squared_norms();
  std::cout << source.network().describe() << ": squared gradient norms of 32 of "
            << source.examples() << " examples, mean " << norms.mean().item<double>() << "\n";
  return at::allclose(norms, batch.gram(batch).diagonal(), 1e-4) ? 0 : 1;
}
