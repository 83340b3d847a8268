#include "tools/progress.h"

#include "tools/text.h"

#include <ostream>

namespace gradist {

namespace {

constexpr std::chrono::seconds kBetweenLines(5);

/// A sweep tells how long it will take once this part of its models is done.
constexpr int64_t kFirstShare = 10;

}  // namespace

std::string describe(const RunInfo& info) {
  const RunOptions& options = info.options;
  return info.model + " (" + detail::with_separators(info.parameters) + " parameters) on " +
         options.data + " (" + detail::with_separators(info.examples) + " examples), " +
         detail::counted(options.threads, "thread") +
         (options.out.empty() ? ", no trace" : ", trace in " + options.out);
}

PlainProgress::PlainProgress(std::ostream& stream)
    : stream_(stream), start_(Clock::now()), shown_(start_) {}

void PlainProgress::begin(const RunInfo& info) {
  start_ = shown_ = Clock::now();
  stream_ << "gradist run: " << describe(info) << std::endl;
}

bool PlainProgress::due() {
  const auto now = Clock::now();
  if (now - shown_ < kBetweenLines) {
    return false;
  }
  shown_ = now;
  return true;
}

void PlainProgress::initialised(const InitialisationStep& step) {
  if (due() || step.step == 0 || step.step == step.steps) {
    stream_ << "MetaInit step " << step.step << " of " << step.steps << ", gradient quotient "
            << detail::significant(step.quotient) << std::endl;
  }
}

// A refresh or a measurement of a large data set takes minutes in which no step is made.
void PlainProgress::refreshed(const RefreshEvent& event) {
  if (due()) {
    stream_ << "iteration " << event.iteration << ", " << event.estimator << " refreshed in "
            << detail::duration(event.seconds) << std::endl;
  }
}

void PlainProgress::logged(const TrajectoryStep& step) {
  train_loss_ = step.train_loss;
  if (due()) {
    stream_ << "iteration " << step.iteration << ", measured, train loss "
            << detail::significant(train_loss_) << std::endl;
  }
}

void PlainProgress::progressed(int64_t iteration, int64_t total) {
  if (!due()) {
    return;
  }
  const double elapsed = std::chrono::duration<double>(Clock::now() - start_).count();
  const double left =
      elapsed * static_cast<double>(total - iteration) / static_cast<double>(iteration);
  stream_ << "iteration " << iteration << " of " << total << ", train loss "
          << detail::significant(train_loss_) << ", " << detail::duration(elapsed) << ", about "
          << detail::duration(left) << " left" << std::endl;
}

PlainSweepProgress::PlainSweepProgress(std::ostream& stream, std::string out)
    : stream_(stream), out_(std::move(out)) {}

void PlainSweepProgress::begin(const rf::SweepStatus& status) {
  shown_ = std::chrono::steady_clock::now();
  stream_ << "gradist rf: " << detail::counted(status.total, "model") << ", sweep in " << out_
          << (status.there > 0 ? ", " + detail::with_separators(status.there) + " already there"
                               : "")
          << std::endl;
}

void PlainSweepProgress::progressed(const rf::SweepStatus& status) {
  const auto now = std::chrono::steady_clock::now();
  if (now - shown_ < kBetweenLines) {
    return;
  }
  shown_ = now;
  stream_ << detail::with_separators(status.done) << " of "
          << detail::counted(status.total, "model") << ", " << detail::duration(status.seconds);
  // The features of the first models come before any of them: their pace says nothing yet.
  if (kFirstShare * status.done >= status.total) {
    const double left = status.seconds * static_cast<double>(status.total - status.done) /
                        static_cast<double>(status.done);
    stream_ << ", about " << detail::duration(left) << " left";
  }
  stream_ << std::endl;
}

}  // namespace gradist
