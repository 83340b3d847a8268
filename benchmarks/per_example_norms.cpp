// What squared norms of single examples cost beside a plain forward and backward pass of the same
// batch: MLP 784-1024-1024-10, B = 128, random inputs. Compare the two times of one run.
#include "models/network_source.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/full.h>
#include <ATen/ops/randint.h>
#include <ATen/ops/randn.h>

#include <benchmark/benchmark.h>

#include <cstdint>

namespace gradist {
namespace {

constexpr int64_t kBatchSize = 128;
constexpr int64_t kInputs = 784;
constexpr int64_t kClasses = 10;

NetworkSource make_source() {
  at::Generator generator = at::make_generator<at::CPUGeneratorImpl>(uint64_t{0});
  ModelOptions options;
  options.hidden = {1024, 1024};
  Dataset data;
  data.inputs = at::randn({kBatchSize, kInputs}, generator, at::kFloat);
  data.targets = at::randint(0, kClasses, {kBatchSize}, generator, at::kLong);
  data.classes = kClasses;
  data.name = "random";
  return {make_network(options, kInputs, kClasses, generator), data, Loss::kCrossEntropy};
}

void plain_backward(benchmark::State& state) {
  NetworkSource source = make_source();
  const at::Tensor indices = at::arange(kBatchSize);
  const at::Tensor weights = at::full({kBatchSize}, 1.0 / kBatchSize, at::kDouble);
  for (auto _ : state) {
    benchmark::DoNotOptimize(source.weighted_gradient(indices, weights));
  }
}

void squared_norms_and_mean(benchmark::State& state) {
  NetworkSource source = make_source();
  const at::Tensor indices = at::arange(kBatchSize);
  const at::Tensor weights = at::full({kBatchSize}, 1.0 / kBatchSize, at::kDouble);
  for (auto _ : state) {
    const GradientBatch batch = source.gradients(indices);
    benchmark::DoNotOptimize(batch.squared_norms());
    benchmark::DoNotOptimize(batch.weighted_sum(weights));
  }
}

BENCHMARK(plain_backward)->Unit(benchmark::kMillisecond)->UseRealTime();
BENCHMARK(squared_norms_and_mean)->Unit(benchmark::kMillisecond)->UseRealTime();

}  // namespace
}  // namespace gradist

BENCHMARK_MAIN();
