#include "data/input_scale.h"

#include <ATen/ATen.h>
#include <c10/util/accumulate.h>

#include <algorithm>
#include <numeric>
#include <vector>

namespace gradist {
namespace {

constexpr size_t kImageDimensions = 4;        // [N, C, H, W]
constexpr int64_t kPiece = int64_t{1} << 20;  // numbers

/// The dimensions along which numbers share their mean.
std::vector<int64_t> shared_dimensions(at::IntArrayRef sizes, bool by_feature) {
  if (by_feature) return {0};
  if (sizes.size() == kImageDimensions) return {0, 2, 3};
  std::vector<int64_t> all(sizes.size());
  std::iota(all.begin(), all.end(), 0);
  return all;
}

/// The formula of the header.
class Moments {
 public:
  void add(const at::Tensor& numbers, at::IntArrayRef shared) {
    const at::Tensor mean = numbers.mean(shared, /*keepdim=*/true);
    const at::Tensor squares = (numbers - mean).square_().sum(shared, /*keepdim=*/true);
    const auto count = static_cast<double>(numbers.numel() / mean.numel());
    if (!mean_.defined()) mean_ = at::zeros_like(mean), squares_ = at::zeros_like(squares);
    const at::Tensor away = mean - mean_;
    const double total = count_ + count;
    mean_ += away * (count / total);
    squares_ += squares + away.square() * (count_ * count / total);
    count_ = total;
  }

  InputScale scale() const {
    const at::Tensor deviation = (squares_ / count_).sqrt_().to(at::kFloat).squeeze(0);
    return {.mean = mean_.to(at::kFloat).squeeze(0),
            .deviation = at::where(deviation == 0, at::ones_like(deviation), deviation)};
  }

 private:
  double count_ = 0;  ///< numbers that share a mean
  at::Tensor mean_, squares_;
};

}  // namespace

void InputScale::apply(at::Tensor& inputs) const {
  if (mean.defined()) inputs.sub_(mean).div_(deviation);
}

InputScale scale_of(at::IntArrayRef sizes, bool by_feature, const RangeReader& read) {
  const std::vector<int64_t> shared = shared_dimensions(sizes, by_feature);
  const int64_t rows = std::max<int64_t>(kPiece / c10::multiply_integers(sizes.slice(1)), 1);
  Moments moments;
  for (int64_t begin = 0; begin < sizes[0]; begin += rows) {
    moments.add(read(begin, std::min(rows, sizes[0] - begin)).to(at::kDouble), shared);
  }
  return moments.scale();
}

}  // namespace gradist
