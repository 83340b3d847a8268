#include "rf/closed_form_moments.h"

#include "rf/sampled_estimates.h"
#include "rf/tiny_problem.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <string>
#include <vector>

namespace gradist::rf {
namespace {

using test::TinyProblem;
using test::Vector;

/// Probability-weighted sums over every possible estimate.
struct Enumerated {
  Vector mean, squares;
  double probability = 0;

  explicit Enumerated(size_t coordinates) : mean(coordinates), squares(coordinates) {}

  void add(double p, const Vector& estimate) {
    probability += p;
    for (size_t j = 0; j < mean.size(); ++j) {
      mean[j] += p * estimate[j];
      squares[j] += p * estimate[j] * estimate[j];
    }
  }
};

void add_to(Vector& sum, double weight, const Vector& term) {
  for (size_t j = 0; j < sum.size(); ++j) {
    sum[j] += weight * term[j];
  }
}

/// All sequences of `draws` of n examples.
void for_each_sequence(int64_t n, int64_t draws,
                       const std::function<void(const std::vector<int64_t>&)>& visit) {
  std::vector<int64_t> sequence(static_cast<size_t>(draws), 0);
  for (bool more = true; more;) {
    visit(sequence);
    more = false;
    for (auto& place : sequence) {
      if (++place < n) {
        more = true;
        break;
      }
      place = 0;
    }
  }
}

/// Every draw of an estimator as its definition says, nothing shared with the code under test.
Enumerated enumerate(const TinyProblem& tiny, const EstimatorState& state, int64_t batch_size) {
  const int64_t n = tiny.examples();
  Enumerated all(static_cast<size_t>(tiny.problem.parameters()));
  if (state.kind == EstimatorKind::kGc || state.kind == EstimatorKind::kGcDescent) {
    std::vector<std::vector<int64_t>> members;
    for (size_t k = 0; k < state.clusters.sizes.size(); ++k) {
      std::vector<int64_t> cluster;
      for (int64_t i = 0; i < n; ++i) {
        if (state.clusters.assignments[static_cast<size_t>(i)] == static_cast<int32_t>(k)) {
          cluster.push_back(i);
        }
      }
      if (!cluster.empty()) {
        members.push_back(cluster);
      }
    }
    const std::function<void(size_t, double, const Vector&)> choose = [&](size_t k, double p,
                                                                          const Vector& sum) {
      if (k == members.size()) {
        all.add(p, sum);
        return;
      }
      const auto size = static_cast<double>(members[k].size());
      for (const int64_t i : members[k]) {
        Vector next = sum;
        add_to(next, size / static_cast<double>(n), tiny.gradient(i));
        choose(k + 1, p / size, next);
      }
    };
    choose(0, 1, Vector(all.mean.size()));
    return all;
  }
  const int64_t draws = state.kind == EstimatorKind::kSg2B ? 2 * batch_size : batch_size;
  for_each_sequence(n, draws, [&](const std::vector<int64_t>& sequence) {
    double p = 1;
    Vector estimate(all.mean.size());
    for (const int64_t i : sequence) {
      const auto e = static_cast<size_t>(i);
      const auto b = static_cast<double>(draws);
      if (state.kind == EstimatorKind::kSgImportance) {
        const double chance = state.probabilities[e];
        p *= chance;
        add_to(estimate, 1 / (b * static_cast<double>(n) * chance), tiny.gradient(i));
      } else {
        p /= static_cast<double>(n);
        add_to(estimate, 1 / b, tiny.gradient(i));
        if (state.kind == EstimatorKind::kSvrg) {
          add_to(estimate, -1 / b, tiny.scaled_row(i, state.snapshot_residuals[e]));
        }
      }
    }
    for (int64_t i = 0; i < n && state.kind == EstimatorKind::kSvrg; ++i) {
      const double r = state.snapshot_residuals[static_cast<size_t>(i)];
      add_to(estimate, 1 / static_cast<double>(n), tiny.scaled_row(i, r));
    }
    all.add(p, estimate);
  });
  return all;
}

EstimatorState state_for(EstimatorKind kind, const TinyProblem& tiny, int64_t clusters) {
  Words random(Philox(4, Stream::kClustering), 0);
  if (kind == EstimatorKind::kSvrg) {
    Vector elsewhere = tiny.residuals;
    for (size_t i = 0; i < elsewhere.size(); ++i) {
      elsewhere[i] += 0.1 * static_cast<double>(i) - 0.2;
    }
    return refreshed(kind, tiny.problem, elsewhere, tiny.row_norms, {}, random);
  }
  return refreshed(kind, tiny.problem, tiny.residuals, tiny.row_norms, {.clusters = clusters},
                   random);
}

struct Setting {
  EstimatorKind kind;
  Loss loss;
  bool with_copy;
};

std::vector<Setting> settings() {
  std::vector<Setting> all;
  for (const auto& name : estimator_names()) {
    for (const Loss loss : {Loss::kCrossEntropy, Loss::kSquared}) {
      for (const bool with_copy : {false, true}) {
        all.push_back({estimator_by_name(name), loss, with_copy});
      }
    }
  }
  return all;
}

class ClosedFormTest : public ::testing::TestWithParam<Setting> {};

TEST_P(ClosedFormTest, EqualsTheEnumerationOfAllDraws) {
  const auto& [kind, loss, with_copy] = GetParam();
  constexpr int64_t kExamples = 5, kBatch = 2;
  const TinyProblem tiny(kExamples, 3, 17, loss, with_copy);
  const auto state = state_for(kind, tiny, kBatch);
  const auto all = enumerate(tiny, state, kBatch);
  EXPECT_NEAR(all.probability, 1, 1e-12);

  double trace = 0, signal = 0, normalized = 0;
  for (size_t j = 0; j < all.mean.size(); ++j) {
    double g = 0;
    for (int64_t i = 0; i < kExamples; ++i) {
      g += tiny.gradient(i)[j] / kExamples;
    }
    EXPECT_NEAR(all.mean[j], g, 1e-12) << "unbiased";
    const double variance = all.squares[j] - all.mean[j] * all.mean[j];
    trace += variance;
    signal += g * g;
    normalized += variance / all.squares[j] / static_cast<double>(all.mean.size());
  }
  const auto moments =
      exact_moments(tiny.problem, tiny.residuals, {state}, {.batch_size = kBatch}).front();
  EXPECT_NEAR(moments.trace_covariance, trace, 1e-12);
  EXPECT_NEAR(moments.average_variance, trace / static_cast<double>(all.mean.size()), 1e-12);
  EXPECT_NEAR(moments.normalized_variance, normalized, 1e-11);
  EXPECT_NEAR(moments.noise_ratio, trace / (trace + signal), 1e-11);
  EXPECT_NEAR(moments.noise_to_signal, trace / signal, 1e-10);
  EXPECT_NEAR(moments.mean_squared_norm, trace + signal, 1e-12);
}

INSTANTIATE_TEST_SUITE_P(Estimators, ClosedFormTest, ::testing::ValuesIn(settings()));

std::vector<EstimatorState> all_states(const TinyProblem& tiny, int64_t clusters) {
  std::vector<EstimatorState> states;
  for (const auto& name : estimator_names()) {
    states.push_back(state_for(estimator_by_name(name), tiny, clusters));
  }
  return states;
}

TEST(ClosedForm, OnePassForAllIsAPassForEach) {
  const TinyProblem tiny(150, 20, 6);
  const auto states = all_states(tiny, 5);
  const auto together = exact_moments(tiny.problem, tiny.residuals, states, {.batch_size = 5});
  for (size_t e = 0; e < states.size(); ++e) {
    const auto alone =
        exact_moments(tiny.problem, tiny.residuals, {states[e]}, {.batch_size = 5}).front();
    EXPECT_EQ(alone.trace_covariance, together[e].trace_covariance);
    EXPECT_EQ(alone.normalized_variance, together[e].normalized_variance);
  }
  EXPECT_NEAR(together[1].trace_covariance, together[0].trace_covariance / 2,
              1e-15 * together[0].trace_covariance);
}

// More than a kernel takes in one call.
TEST(ClosedForm, AnyNumberOfEstimatorsFits) {
  const TinyProblem tiny(70, 9, 6);
  auto states = all_states(tiny, 5);
  const auto once = exact_moments(tiny.problem, tiny.residuals, states, {.batch_size = 5});
  const auto copy = states;
  states.insert(states.end(), copy.begin(), copy.end());
  const auto twice = exact_moments(tiny.problem, tiny.residuals, states, {.batch_size = 5});
  for (size_t e = 0; e < twice.size(); ++e) {
    EXPECT_EQ(twice[e].trace_covariance, once[e % once.size()].trace_covariance);
  }
}

TEST(ClosedForm, SvrgHasNoVarianceAtItsSnapshot) {
  const TinyProblem tiny(30, 5, 2);
  EstimatorState state;
  state.kind = EstimatorKind::kSvrg;
  state.snapshot_residuals = tiny.residuals;
  EXPECT_EQ(exact_moments(tiny.problem, tiny.residuals, {state}, {.batch_size = 3})
                .front()
                .trace_covariance,
            0);
}

// The gradient of two logits is [-r psi; r psi]: twice the coordinates, each pair the same.
TEST(ClosedForm, TwoLogitsAreTwoCopies) {
  const TinyProblem tiny(30, 5, 2);
  const auto state = state_for(EstimatorKind::kGc, tiny, 3);
  const auto one = exact_moments(tiny.problem, tiny.residuals, {state}, {.batch_size = 3}).front();
  const auto two =
      exact_moments(tiny.problem, tiny.residuals, {state}, {.batch_size = 3, .logits = 2}).front();
  EXPECT_DOUBLE_EQ(two.trace_covariance, 2 * one.trace_covariance);
  EXPECT_DOUBLE_EQ(two.mean_squared_norm, 2 * one.mean_squared_norm);
  EXPECT_EQ(two.average_variance, one.average_variance);
  EXPECT_EQ(two.normalized_variance, one.normalized_variance);
  EXPECT_EQ(two.noise_to_signal, one.noise_to_signal);
}

// float32 sums over blocks of 64 rows: relative error of some 64 eps, of the second moment.
TEST(ClosedForm, SinglePrecisionFollowsDouble) {
  const TinyProblem tiny(300, 40, 9);
  Rows<float> psi(300, 41);
  for (int64_t i = 0; i < 300; ++i) {
    const Vector row = tiny.row(i);
    std::copy(row.begin(), row.end(), psi.row(i));
  }
  Problem<float> single;
  single.psi = &psi;
  single.index = tiny.problem.index;
  single.labels = tiny.problem.labels;
  const auto states = all_states(tiny, 10);
  const auto exact = exact_moments(tiny.problem, tiny.residuals, states, {.batch_size = 10});
  const auto fast = exact_moments(single, tiny.residuals, states, {.batch_size = 10});
  for (size_t e = 0; e < states.size(); ++e) {
    EXPECT_NEAR(fast[e].trace_covariance, exact[e].trace_covariance,
                64 * 1.2e-7 * exact[e].mean_squared_norm)
        << estimator_names()[e];
  }
}

/// The estimates that sampled_moments draws, from the same random numbers, written down.
std::vector<Vector> estimates(const TinyProblem& tiny, const EstimatorState& state,
                              int64_t batch_size, int64_t count, Words& random) {
  std::vector<Vector> made;
  for (int64_t e = 0; e < count; ++e) {
    const Draw batch = draw(state, tiny.examples(), batch_size, random);
    Vector estimate(static_cast<size_t>(tiny.problem.parameters()));
    for (size_t b = 0; b < batch.examples.size(); ++b) {
      add_to(estimate, batch.weights[b], tiny.gradient(batch.examples[b]));
      if (!state.snapshot_residuals.empty()) {
        const double r = state.snapshot_residuals[static_cast<size_t>(batch.examples[b])];
        add_to(estimate, -batch.weights[b], tiny.scaled_row(batch.examples[b], r));
      }
    }
    for (size_t i = 0; i < state.snapshot_residuals.size(); ++i) {
      add_to(estimate, 1 / static_cast<double>(tiny.examples()),
             tiny.scaled_row(static_cast<int64_t>(i), state.snapshot_residuals[i]));
    }
    made.push_back(estimate);
  }
  return made;
}

TEST(SampledMoments, AreTheVarianceOfTheEstimates) {
  const TinyProblem tiny(20, 4, 3);
  constexpr int64_t kCount = 9, kBatch = 4;
  for (const auto& state : all_states(tiny, kBatch)) {
    Words random(Philox(8, Stream::kEstimates), 0);
    Words same = random;
    const auto moments =
        sampled_moments(tiny.problem, tiny.residuals, state,
                        {.draws = {.batch_size = kBatch}, .estimates = kCount}, random);
    const auto drawn = estimates(tiny, state, kBatch, kCount, same);
    Vector mean(drawn.front().size());
    for (const auto& estimate : drawn) {
      add_to(mean, 1.0 / kCount, estimate);
    }
    double trace = 0;
    for (Vector deviation : drawn) {
      add_to(deviation, -1, mean);
      trace += test::squared_norm(deviation) / (kCount - 1);
    }
    EXPECT_NEAR(moments.trace_covariance, trace, 1e-12 * (1 + trace));
    const double signal = std::max(test::squared_norm(mean) - trace / kCount, 0.0);
    EXPECT_NEAR(moments.mean_squared_norm, trace + signal, 1e-12 * (1 + trace));
  }
}

// E other draws first, then E whose deviations from the mean of the others count.
TEST(SampledMoments, FollowThePapersProtocol) {
  const TinyProblem tiny(20, 4, 3);
  constexpr int64_t kCount = 9, kBatch = 4;
  const auto state = state_for(EstimatorKind::kSgB, tiny, kBatch);
  Words random(Philox(8, Stream::kEstimates), 0);
  Words same = random;
  const auto moments = sampled_moments(
      tiny.problem, tiny.residuals, state,
      {.draws = {.batch_size = kBatch}, .estimates = kCount, .faghri = true}, random);
  const auto others = estimates(tiny, state, kBatch, kCount, same);
  const auto drawn = estimates(tiny, state, kBatch, kCount, same);
  Vector mean(drawn.front().size());
  for (const auto& estimate : others) {
    add_to(mean, 1.0 / kCount, estimate);
  }
  double trace = 0, normalized = 0;
  for (size_t j = 0; j < mean.size(); ++j) {
    double deviations = 0, squares = 1e-7;
    for (const auto& estimate : drawn) {
      deviations += std::pow(estimate[j] - mean[j], 2);
      squares += estimate[j] * estimate[j];
    }
    trace += deviations / kCount;
    normalized += deviations / squares / static_cast<double>(mean.size());
  }
  EXPECT_NEAR(moments.trace_covariance, trace, 1e-12);
  EXPECT_NEAR(moments.normalized_variance, normalized, 1e-12);
}

}  // namespace
}  // namespace gradist::rf
