#include "trajectory/epoch_sampler.h"

#include "support/value_error.h"
#include "trajectory/random_streams.h"

#include <ATen/ops/cat.h>
#include <gtest/gtest.h>

#include <set>

namespace gradist {
namespace {

std::vector<int64_t> values(const at::Tensor& indices) {
  return {indices.const_data_ptr<int64_t>(), indices.const_data_ptr<int64_t>() + indices.numel()};
}

TEST(EpochSamplerTest, VisitsEveryExampleOnceAnEpoch) {
  EpochSampler sampler(12, 4, stream_generator(3, RandomStream::kTraining));
  std::set<std::vector<int64_t>> orders;
  for (int epoch = 0; epoch < 5; ++epoch) {
    const auto order = values(at::cat({sampler.next(), sampler.next(), sampler.next()}));
    EXPECT_EQ(std::set<int64_t>(order.begin(), order.end()).size(), 12U);
    orders.insert(order);
  }
  EXPECT_EQ(orders.size(), 5U) << "every epoch has an order of its own";
}

TEST(EpochSamplerTest, LeavesTheIncompleteBatchOut) {
  EpochSampler sampler(11, 4, stream_generator(3, RandomStream::kTraining));
  EXPECT_EQ(sampler.batches_per_epoch(), 2);
  for (int epoch = 0; epoch < 3; ++epoch) {
    const auto order = values(at::cat({sampler.next(), sampler.next()}));
    EXPECT_EQ(std::set<int64_t>(order.begin(), order.end()).size(), 8U);
  }
}

TEST(EpochSamplerTest, RefusesBatchesLargerThanTheSet) {
  EXPECT_EQ(test::refusal([] { EpochSampler(3, 4, stream_generator(0, RandomStream::kTraining)); }),
            "batch-size = 4, must lie in [1, 3], the number of examples");
}

TEST(RandomStreamsTest, NoTwoStreamsShareASeed) {
  std::set<uint64_t> seeds;
  for (uint64_t seed = 0; seed < 1000; ++seed) {
    for (const auto stream : {RandomStream::kData, RandomStream::kInitialisation,
                              RandomStream::kTraining, RandomStream::kMeasuring}) {
      seeds.insert(stream_seed(seed, stream));
    }
  }
  EXPECT_EQ(seeds.size(), 4000U);
}

}  // namespace
}  // namespace gradist
