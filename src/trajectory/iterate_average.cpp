#include "trajectory/iterate_average.h"

#include <ATen/core/Tensor.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <cmath>

namespace gradist {

int64_t averaged_iterates(double share, int64_t interval) {
  if (share == 0) return 0;
  const auto nearest = static_cast<int64_t>(std::llround(share * static_cast<double>(interval)));
  return std::clamp(nearest, int64_t{1}, interval);
}

IterateAverage::IterateAverage(double share, int64_t interval)
    : interval_(interval), averaged_(averaged_iterates(share, interval)) {}

void IterateAverage::add(int64_t iteration, const ParameterList& parameters) {
  const int64_t before_refresh = (interval_ - iteration % interval_) % interval_;
  if (before_refresh >= averaged_) return;
  // The first one is copied, not added to zeros, which would make +0 of -0.
  for (size_t l = 0; l < parameters.size(); ++l) {
    const at::Tensor iterate = parameters[l].detach();
    if (count_ == 0) {
      sums_.push_back(iterate.to(at::kDouble, /*non_blocking=*/false, /*copy=*/true));
    } else {
      sums_[l].add_(iterate);
    }
  }
  ++count_;
}

void IterateAverage::move_to_mean(const ParameterList& parameters) {
  const at::NoGradGuard no_grad;
  for (size_t l = 0; l < sums_.size(); ++l) {
    parameters[l].copy_(sums_[l].div_(static_cast<double>(count_)));
  }
  sums_.clear();
  count_ = 0;
}

}  // namespace gradist
