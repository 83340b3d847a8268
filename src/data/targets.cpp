#include "data/targets.h"

#include <ATen/ATen.h>
#include <c10/util/Exception.h>

#include <cmath>
#include <iomanip>
#include <sstream>
#include <utility>

namespace gradist {
namespace {

constexpr int64_t kMostClasses = 100000;

/// Beyond it a float holds only some of the whole numbers, and different labels become one.
constexpr int64_t kMostExact = (int64_t{1} << 24) - 1;

/// "33554432": all its digits, where a float is whole.
std::string digits_of(float label) {
  if (label != std::round(label)) return c10::str(label);
  std::ostringstream text;
  text << std::fixed << std::setprecision(0) << label;
  return text.str();
}

/// Refuses the first label that is `wrong`, [N].
void refuse(const at::Tensor& wrong, const at::Tensor& labels, const std::string& file,
            const std::string& rule) {
  const at::Tensor rows = wrong.nonzero();
  if (rows.size(0) == 0) return;
  const auto row = rows[0].item<int64_t>();
  TORCH_CHECK_VALUE(false, file, ": label ", digits_of(labels[row].item<float>()), " of example ",
                    row, " (from 0), must be ", rule);
}

void check_classes(const at::Tensor& labels, const std::string& file) {
  refuse(labels != labels.round(), labels, file, "a whole number where targets = classes");
  refuse(labels.abs() > kMostExact, labels, file,
         c10::str(-kMostExact, "..", kMostExact, " where targets = classes"));
}

/// The position of each label among `classes`, which are ascending.
at::Tensor class_of(const at::Tensor& labels, const at::Tensor& classes, const std::string& file) {
  const at::Tensor found = at::searchsorted(classes, labels).clamp_max(classes.numel() - 1);
  refuse(classes.index_select(0, found) != labels, labels, file,
         c10::str("one of the ", classes.numel(), " classes of the training set"));
  return found;
}

}  // namespace

const std::vector<std::string>& target_names() {
  static const std::vector<std::string> names = {"classes", "numbers"};
  return names;
}

void set_targets(DataSplit& split, const std::string& targets, const at::Tensor& train_labels,
                 const at::Tensor& test_labels, const std::pair<std::string, std::string>& files) {
  if (targets == "numbers") {
    split.train.targets = train_labels;
    split.test.targets = test_labels;
    return;
  }
  check_classes(train_labels, files.first);
  check_classes(test_labels, files.second);
  const at::Tensor classes = std::get<0>(at::_unique(train_labels, /*sorted=*/true));
  TORCH_CHECK_VALUE(classes.numel() <= kMostClasses, files.first, ": ", classes.numel(),
                    " different labels, must be at most ", kMostClasses, " classes");
  split.train.targets = class_of(train_labels, classes, files.first);
  split.test.targets = class_of(test_labels, classes, files.second);
  split.train.classes = split.test.classes = classes.numel();
}

}  // namespace gradist
