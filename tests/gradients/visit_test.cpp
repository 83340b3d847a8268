#include "gradients/visit.h"

#include "support/factors.h"
#include "support/property.h"

#include <ATen/ATen.h>

namespace gradist {
namespace {

using test::any_between;
using test::make_problem;

std::vector<at::Tensor> any_strata() {
  const auto count = any_between(0, 6);
  std::vector<at::Tensor> strata;
  int64_t next = 0;
  for (int64_t k = 0; k < count; ++k) {
    const auto size = any_between(0, 9);
    strata.push_back(at::arange(next, next + size, at::kLong));
    next += size;
  }
  return strata;
}

RC_GTEST_PROP(PlanVisit, VisitsEveryMemberOnceInOrder, ()) {
  const auto strata = any_strata();
  const auto limit = any_between(1, 10);
  int64_t visited = 0;
  for (const Chunk& chunk : plan_visit(strata, limit)) {
    const auto size = chunk.indices.numel();
    RC_ASSERT(size >= 1);
    RC_ASSERT(size <= limit);
    RC_ASSERT(at::equal(chunk.indices, at::arange(visited, visited + size, at::kLong)));
    visited += size;
  }
  int64_t members = 0;
  for (const at::Tensor& stratum : strata) members += stratum.numel();
  RC_ASSERT(visited == members);
}

RC_GTEST_PROP(PlanVisit, SegmentsNameTheStrataOfAChunk, ()) {
  const auto strata = any_strata();
  std::vector<int64_t> left;
  for (const at::Tensor& stratum : strata) left.push_back(stratum.numel());
  for (const Chunk& chunk : plan_visit(strata, any_between(1, 10))) {
    int64_t end = 0;
    for (const Segment& segment : chunk.segments) {
      RC_ASSERT(segment.begin == end);
      RC_ASSERT(segment.end > segment.begin);
      end = segment.end;
      const auto& stratum = strata[static_cast<size_t>(segment.stratum)];
      auto& rest = left[static_cast<size_t>(segment.stratum)];
      const auto first = stratum.numel() - rest;
      const auto size = segment.end - segment.begin;
      RC_ASSERT(at::equal(chunk.indices.slice(0, segment.begin, segment.end),
                          stratum.slice(0, first, first + size)));
      rest -= size;
      RC_ASSERT(segment.last == (rest == 0));
    }
    RC_ASSERT(end == chunk.indices.numel());
  }
}

RC_GTEST_PROP(PlanVisit, CutsOnlyStrataLargerThanAChunk, ()) {
  const auto strata = any_strata();
  const auto limit = any_between(1, 10);
  for (const Chunk& chunk : plan_visit(strata, limit)) {
    for (const Segment& segment : chunk.segments) {
      const auto size = strata[static_cast<size_t>(segment.stratum)].numel();
      RC_ASSERT(segment.end - segment.begin == size || size > limit);
    }
  }
}

TEST(PlanVisit, OfNothingIsEmpty) {
  EXPECT_TRUE(plan_visit({}, 3).empty());
  EXPECT_TRUE(plan_visit({at::empty({0}, at::kLong), at::empty({0}, at::kLong)}, 3).empty());
}

/// 8 times the factors of one example have to fit: 8 x 8 (300 + 200) = 32,000 bytes.
test::FactoredSource wide_source() {
  GradientBatch batch;
  batch.parameters = {test::normal_factors(3, 1, 300, 200, 1)};
  return test::FactoredSource(batch);
}

TEST(ChunkSize, FollowsTheMemoryOfOneExample) {
  auto source = wide_source();
  EXPECT_EQ(chunk_size(source, 320'000), 10);
  EXPECT_EQ(chunk_size(source, 351'999), 10);
  EXPECT_EQ(chunk_size(source, 352'000), 11);
}

TEST(ChunkSize, LiesBetweenOneAndAMaximum) {
  auto source = wide_source();
  EXPECT_EQ(chunk_size(source, 1), 1);
  EXPECT_EQ(chunk_size(source, int64_t{1} << 50), 1024);
  EXPECT_EQ(chunk_size(source, 0), chunk_size(source, int64_t{1} << 30));
}

RC_GTEST_PROP(ChunkSize, NeverFallsWithMoreMemory, ()) {
  auto source = wide_source();
  const auto memory = any_between(1, 1'000'000'000), more = any_between(0, 1'000'000'000);
  const auto size = chunk_size(source, memory);
  RC_ASSERT(size >= 1);
  RC_ASSERT(chunk_size(source, memory) == size);
  RC_ASSERT(chunk_size(source, memory + more) >= size);
}

TEST(ChunkSize, IsTheSameWhateverTheParametersAre) {
  auto problem = make_problem("mlp");
  const auto before = chunk_size(*problem.source, 100'000);
  problem.source->move(1.0, 1);
  EXPECT_EQ(chunk_size(*problem.source, 100'000), before);
}

}  // namespace
}  // namespace gradist
