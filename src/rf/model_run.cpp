#include "rf/model_run.h"

#include "rf/closed_form_moments.h"
#include "rf/kernels.h"
#include "rf/sampled_estimates.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

namespace gradist::rf {

namespace {

/// The readout in training, and the batches it takes: epochs of minibatches without replacement;
/// what is left over at an epoch's end is left out.
class Training {
 public:
  Training(const SweepOptions& options, const ModelPoint& point, const Problem<float>& problem)
      : problem_(problem),
        seed_(static_cast<uint64_t>(point.seed)),
        batch_size_(point.batch_size),
        logits_(options.logits),
        lr_(point.lr),
        decay_(1 - point.lr * point.weight_decay),
        readout_(1, problem.parameters()),
        batch_(static_cast<size_t>(batch_size_)),
        labels_(batch_.size()),
        products_(batch_.size()),
        coefficients_(batch_.size()) {
    Words random(Philox(seed_, Stream::kReadout), 0);
    const double bound = 1 / std::sqrt(static_cast<double>(problem.parameters() - 1));
    for (int64_t j = 0; j < problem.parameters(); ++j) {
      // With two logits this is the difference of their two rows.
      double number = 0;
      for (int64_t row = 0; row < logits_; ++row) {
        number += (row == 0 ? 1 : -1) * bound * (2 * random.uniform() - 1);
      }
      readout_.data()[j] = static_cast<float>(number);
    }
  }

  const float* readout() const { return readout_.data(); }

  /// w <- (1 - lr wd) w - lr (1/B) sum r_i psi_i; with two logits their difference moves twice as
  /// far.
  void step() {
    next_batch();
    const auto& rows = detail::kernels().single;
    rows.dots(problem_.psi->data(), problem_.psi->stride(), batch_.data(), batch_size_,
              readout_.data(), products_.data());
    const double factor = -lr_ * static_cast<double>(logits_) / static_cast<double>(batch_size_);
    for (size_t b = 0; b < batch_.size(); ++b) {
      coefficients_[b] =
          static_cast<float>(factor * residual(problem_.loss, products_[b], labels_[b]));
    }
    rows.combine(problem_.psi->data(), problem_.psi->stride(), batch_.data(), batch_size_,
                 coefficients_.data(), static_cast<float>(decay_), readout_.data());
  }

 private:
  void next_batch() {
    if (order_.empty() || used_ + batch_.size() > order_.size()) {
      Words random(Philox(seed_, Stream::kEpochs), epoch_++);
      order_ = random_order(problem_.examples(), random);
      used_ = 0;
    }
    for (size_t b = 0; b < batch_.size(); ++b, ++used_) {
      const auto i = static_cast<size_t>(order_[used_]);
      batch_[b] = problem_.index[i];
      labels_[b] = problem_.labels[i];
    }
  }

  const Problem<float>& problem_;
  uint64_t seed_;
  int64_t batch_size_, logits_;
  double lr_, decay_;
  Rows<float> readout_;
  std::vector<int32_t> order_;
  size_t used_ = 0;
  uint32_t epoch_ = 0;
  std::vector<int32_t> batch_;
  std::vector<double> labels_, products_;
  std::vector<float> coefficients_;
};

double squared_gradient_norm(const Moments& moments) {
  return moments.mean_squared_norm - moments.trace_covariance;
}

/// Refreshes and measures the estimators of one model.
class Measuring {
 public:
  Measuring(const SweepOptions& options, const ModelPoint& point, const Problem<float>& problem)
      : options_(options),
        point_(point),
        problem_(problem),
        row_norms_(squared_row_norms(problem)) {
    for (const auto& name : options.estimators) {
      states_.emplace_back().kind = estimator_by_name(name);
    }
  }

  void refresh(const std::vector<double>& residuals, int64_t iteration) {
    const RefreshOptions refresh{.clusters = point_.batch_size,
                                 .gc_iterations = options_.gc_iterations,
                                 .importance_mix = options_.importance_mix};
    for (auto& state : states_) {
      state = refreshed(state.kind, problem_, residuals, row_norms_, refresh,
                        words(Stream::kClustering, iteration, state.kind));
    }
  }

  std::vector<Moments> measure(const std::vector<double>& residuals, int64_t iteration) const {
    const DrawOptions draws{.batch_size = point_.batch_size, .logits = options_.logits};
    if (options_.measure == "exact") {
      return exact_moments(problem_, residuals, states_, draws);
    }
    const SampledOptions sampled{
        .draws = draws, .estimates = options_.draws, .faghri = options_.protocol == "faghri"};
    std::vector<Moments> moments;
    for (const auto& state : states_) {
      Words random = words(Stream::kEstimates, iteration, state.kind);
      moments.push_back(sampled_moments(problem_, residuals, state, sampled, random));
    }
    return moments;
  }

 private:
  /// An iteration and an estimator have random numbers of their own, so that measuring one more
  /// changes none of the others.
  Words words(Stream stream, int64_t iteration, EstimatorKind kind) const {
    const auto kinds = static_cast<int64_t>(estimator_names().size());
    const auto row = iteration * kinds + static_cast<int64_t>(kind);
    return {Philox(static_cast<uint64_t>(point_.seed), stream), static_cast<uint32_t>(row)};
  }

  const SweepOptions& options_;
  const ModelPoint& point_;
  const Problem<float>& problem_;
  std::vector<double> row_norms_;
  std::vector<EstimatorState> states_;
};

/// Maximum and mean of a curve over the last 70 % of the iterations.
void summarise(const SweepOptions& options, const double* curve, double& maximum, double& mean) {
  const auto points = log_points(options);
  const auto first = std::find_if(points.begin(), points.end(),
                                  [&](int64_t t) { return 10 * t >= 3 * options.iterations; });
  const double* begin = curve + (first - points.begin());
  const double* end = curve + points.size();
  maximum = *std::max_element(begin, end);
  mean = std::accumulate(begin, end, 0.0) / static_cast<double>(end - begin);
}

class Recorder {
 public:
  Recorder(const SweepOptions& options, ModelRecord& record)
      : options_(options), record_(record), points_(log_points(options).size()) {
    const size_t numbers = options.estimators.size() * points_;
    for (auto* curve : {&record.average_variance, &record.normalized_variance, &record.noise_ratio,
                        &record.noise_to_signal}) {
      curve->assign(numbers, kUndefined);
    }
  }

  void add(const Readings& train, const Readings& test, const std::vector<Moments>& moments) {
    const size_t t = record_.train_loss.size();
    record_.train_loss.push_back(train.mean_loss);
    record_.train_error.push_back(train.error);
    record_.test_loss.push_back(test.mean_loss);
    record_.test_error.push_back(test.error);
    record_.squared_gradient_norm.push_back(squared_gradient_norm(moments.front()));
    for (size_t e = 0; e < moments.size(); ++e) {
      record_.average_variance[e * points_ + t] = moments[e].average_variance;
      record_.normalized_variance[e * points_ + t] = moments[e].normalized_variance;
      record_.noise_ratio[e * points_ + t] = moments[e].noise_ratio;
      record_.noise_to_signal[e * points_ + t] = moments[e].noise_to_signal;
    }
  }

  void finish() {
    for (size_t e = 0; e < options_.estimators.size(); ++e) {
      summarise(options_, record_.average_variance.data() + e * points_,
                record_.max_average_variance.emplace_back(),
                record_.mean_average_variance.emplace_back());
      summarise(options_, record_.normalized_variance.data() + e * points_,
                record_.max_normalized_variance.emplace_back(),
                record_.mean_normalized_variance.emplace_back());
    }
  }

 private:
  const SweepOptions& options_;
  ModelRecord& record_;
  size_t points_;
};

std::vector<int32_t> rows_with_duplicates(const SweepOptions& options, const ModelPoint& point) {
  std::vector<int32_t> rows(static_cast<size_t>(point.n));
  std::iota(rows.begin(), rows.end(), 0);
  if (point.duplicates > 0) {
    const auto places =
        static_cast<int64_t>(std::llround(point.duplicates * static_cast<double>(point.n)));
    for (int64_t i = 0; i < point.n; ++i) {
      rows[static_cast<size_t>(i)] = static_cast<int32_t>(
          i < places ? i % options.duplicate_points : options.duplicate_points + i - places);
    }
  }
  return rows;
}

/// What is taken off a teacher's output before its sign is: the mean over the training set.
double threshold(const SweepOptions& options, const std::vector<int32_t>& rows,
                 const std::vector<double>& outputs, double bias) {
  if (!options.center_labels) {
    return -bias;
  }
  double sum = 0;
  for (const int32_t row : rows) {
    sum += outputs[static_cast<size_t>(row)];
  }
  return sum / static_cast<double>(rows.size());
}

Problem<float> labelled(const SweepOptions& options, const Rows<float>& psi,
                        std::vector<int32_t> rows, const std::vector<double>& outputs,
                        double threshold) {
  Problem<float> problem;
  problem.psi = &psi;
  problem.loss = loss_by_name(options.loss);
  for (const int32_t row : rows) {
    problem.labels.push_back(outputs[static_cast<size_t>(row)] >= threshold ? 1.0 : -1.0);
  }
  problem.index = std::move(rows);
  return problem;
}

}  // namespace

const std::vector<SweepColumn>& sweep_columns() {
  static const std::vector<SweepColumn> columns = {
      {"train_loss", "mean loss over the training set", false, true, &ModelRecord::train_loss},
      {"train_error", "fraction of the training set classified wrong", false, true,
       &ModelRecord::train_error},
      {"test_loss", "mean loss over the test set", false, true, &ModelRecord::test_loss},
      {"test_error", "fraction of the test set classified wrong", false, true,
       &ModelRecord::test_error},
      {"squared_gradient_norm", "||g||^2 of the full gradient", false, true,
       &ModelRecord::squared_gradient_norm},
      {"average_variance", "tr Cov[estimate] / P", true, true, &ModelRecord::average_variance},
      {"normalized_variance", "mean over coordinates of Var / E[estimate^2]", true, true,
       &ModelRecord::normalized_variance},
      {"noise_ratio", "tr Cov[estimate] / E||estimate||^2", true, true, &ModelRecord::noise_ratio},
      {"noise_to_signal", "tr Cov[estimate] / ||g||^2", true, true, &ModelRecord::noise_to_signal},
      {"max_average_variance", "maximum over the last 70 % of the iterations", true, false,
       &ModelRecord::max_average_variance},
      {"mean_average_variance", "mean over the last 70 % of the iterations", true, false,
       &ModelRecord::mean_average_variance},
      {"max_normalized_variance", "maximum over the last 70 % of the iterations", true, false,
       &ModelRecord::max_normalized_variance},
      {"mean_normalized_variance", "mean over the last 70 % of the iterations", true, false,
       &ModelRecord::mean_normalized_variance},
  };
  return columns;
}

int64_t numbers_in(const SweepColumn& column, const SweepOptions& options) {
  const auto points = static_cast<int64_t>(log_points(options).size());
  const auto estimators = static_cast<int64_t>(options.estimators.size());
  return (column.by_estimator ? estimators : 1) * (column.by_iteration ? points : 1);
}

Problem<float> training_set(const SweepOptions& options, const ModelPoint& point,
                            const FeatureSet& features) {
  const auto& outputs = features.teacher_train.at(point.h_teacher);
  auto rows = rows_with_duplicates(options, point);
  const double zero = threshold(options, rows, outputs, features.teacher_bias);
  return labelled(options, features.train.at(point.h_student), std::move(rows), outputs, zero);
}

Problem<float> test_set(const SweepOptions& options, const ModelPoint& point,
                        const FeatureSet& features) {
  const double zero = threshold(options, rows_with_duplicates(options, point),
                                features.teacher_train.at(point.h_teacher), features.teacher_bias);
  std::vector<int32_t> rows(static_cast<size_t>(options.test_examples));
  std::iota(rows.begin(), rows.end(), 0);
  return labelled(options, features.test.at(point.h_student), std::move(rows),
                  features.teacher_test.at(point.h_teacher), zero);
}

ModelRecord run_model(const SweepOptions& options, const ModelPoint& point,
                      const FeatureSet& features, const std::function<bool()>& stop) {
  ModelRecord record;
  const auto train = training_set(options, point, features);
  const auto test = test_set(options, point, features);
  Training training(options, point, train);
  Measuring measuring(options, point, train);
  Recorder recorder(options, record);
  for (int64_t t = 0; t <= options.iterations; ++t) {
    const bool refreshes = t % options.refresh_every == 0;
    const bool measures = t % options.log_every == 0 || t == options.iterations;
    if (refreshes || measures) {
      const auto readings = read_out(train, training.readout());
      if (refreshes) {
        measuring.refresh(readings.residuals, t);
      }
      if (measures) {
        if (stop && stop()) {
          throw Stopped();
        }
        recorder.add(readings, read_out(test, training.readout()),
                     measuring.measure(readings.residuals, t));
      }
    }
    if (t < options.iterations) {
      training.step();
    }
  }
  recorder.finish();
  return record;
}

}  // namespace gradist::rf
