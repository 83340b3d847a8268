#include "data/targets.h"

#include <ATen/ATen.h>
#include <c10/util/Exception.h>

#include <utility>

namespace gradist {
namespace {

constexpr int64_t kMostClasses = 100000;

void check_whole(const at::Tensor& labels, const std::string& file) {
  const at::Tensor wrong = (labels != labels.round()).nonzero();
  if (wrong.size(0) == 0) return;
  const auto row = wrong[0].item<int64_t>();
  TORCH_CHECK_VALUE(false, file, ": label ", labels[row].item<float>(), " of example ", row,
                    " (from 0), must be a whole number where targets = classes");
}

/// The position of each label among `classes`, which are ascending.
at::Tensor class_of(const at::Tensor& labels, const at::Tensor& classes, const std::string& file) {
  const at::Tensor found = at::searchsorted(classes, labels).clamp_max(classes.numel() - 1);
  const at::Tensor wrong = (classes.index_select(0, found) != labels).nonzero();
  if (wrong.size(0) > 0) {
    const auto row = wrong[0].item<int64_t>();
    TORCH_CHECK_VALUE(false, file, ": label ", labels[row].item<float>(), " of example ", row,
                      " (from 0), must be one of the ", classes.numel(),
                      " classes of the training set");
  }
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
  check_whole(train_labels, files.first);
  const at::Tensor classes = std::get<0>(at::_unique(train_labels, /*sorted=*/true));
  TORCH_CHECK_VALUE(classes.numel() <= kMostClasses, files.first, ": ", classes.numel(),
                    " different labels, must be at most ", kMostClasses, " classes");
  split.train.targets = class_of(train_labels, classes, files.first);
  split.test.targets = class_of(test_labels, classes, files.second);
  split.train.classes = split.test.classes = classes.numel();
}

}  // namespace gradist
