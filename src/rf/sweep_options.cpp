#include "rf/sweep_options.h"

#include "rf/presets.h"
#include "rf/sweep_file.h"

#include <c10/util/Exception.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <functional>
#include <limits>
#include <map>
#include <numeric>
#include <optional>
#include <sstream>

namespace gradist::rf {

namespace {

struct Shard {
  int64_t number = 1, of = 1;
};

std::optional<Shard> parse_shard(const std::string& text) {
  std::istringstream stream(text);
  Shard shard;
  char slash = 0;
  const bool complete = stream >> shard.number >> slash >> shard.of && stream.peek() == EOF;
  const bool valid = complete && slash == '/' && shard.number >= 1 && shard.number <= shard.of;
  return valid ? std::optional(shard) : std::nullopt;
}

template <class T, class U>
void refuse(const char* name, const T& value, const U& rule) {
  TORCH_CHECK_VALUE(false, name, " = ", value, ", ", rule);
}

/// Counters of Philox are 32-bit words, as are the kernels' row numbers.
constexpr int64_t kMostNumbers = std::numeric_limits<int32_t>::max() / 2;

int64_t least(const std::vector<int64_t>& values) {
  return *std::min_element(values.begin(), values.end());
}
int64_t most(const std::vector<int64_t>& values) {
  return *std::max_element(values.begin(), values.end());
}

void check_duplicates(const SweepOptions& options) {
  for (const double fraction : options.duplicates) {
    const auto places =
        static_cast<int64_t>(std::llround(fraction * static_cast<double>(least(options.n))));
    TORCH_CHECK_VALUE(fraction == 0 || options.duplicate_points <= places,
                      "duplicate-points = ", options.duplicate_points, ", must be <= ", places,
                      ", what duplicates = ", fraction, " makes of n = ", least(options.n));
  }
}

void check_sizes(const SweepOptions& options) {
  const std::pair<const char*, const std::vector<int64_t>*> axes[] = {
      {"n", &options.n},
      {"d-in", &options.d_in},
      {"h-teacher", &options.h_teacher},
      {"h-student", &options.h_student},
      {"batch-size", &options.batch_size}};
  for (const auto& [name, values] : axes) {
    if (most(*values) > kMostNumbers) {
      refuse(name, most(*values), "must be <= " + std::to_string(kMostNumbers));
    }
  }
  if (least(options.n) < most(options.batch_size)) {
    refuse("n", least(options.n),
           "must be >= batch-size = " + std::to_string(most(options.batch_size)));
  }
  if (models_in(options) > kMostNumbers) {
    refuse("n", options.n.size(),
           "values make a grid of more than " + std::to_string(kMostNumbers) + " models");
  }
}

}  // namespace

Rule<std::string> shard_rule() {
  return {"must be i/n with 1 <= i <= n, such as 1/4",
          [](const std::string& text) { return text.empty() || parse_shard(text).has_value(); }};
}

std::vector<int64_t> grid_shape(const SweepOptions& options) {
  std::vector<int64_t> shape;
  const auto add = [&](const auto& axis) { shape.push_back(static_cast<int64_t>(axis.size())); };
  add(options.n);
  add(options.d_in);
  add(options.h_teacher);
  add(options.h_student);
  add(options.duplicates);
  add(options.batch_size);
  add(options.lr);
  add(options.weight_decay);
  add(options.seeds);
  return shape;
}

int64_t models_in(const SweepOptions& options) {
  const auto shape = grid_shape(options);
  return std::accumulate(shape.begin(), shape.end(), int64_t{1}, std::multiplies<>());
}

ModelPoint model_at(const SweepOptions& options, int64_t index) {
  ModelPoint point;
  const auto take = [&index](const auto& axis, auto& value) {
    const auto length = static_cast<int64_t>(axis.size());
    value = axis[static_cast<size_t>(index % length)];
    index /= length;
  };
  take(options.seeds, point.seed);
  take(options.weight_decay, point.weight_decay);
  take(options.lr, point.lr);
  take(options.batch_size, point.batch_size);
  take(options.duplicates, point.duplicates);
  take(options.h_student, point.h_student);
  take(options.h_teacher, point.h_teacher);
  take(options.d_in, point.d_in);
  take(options.n, point.n);
  return point;
}

std::vector<int64_t> log_points(const SweepOptions& options) {
  std::vector<int64_t> points;
  for (int64_t t = 0; t < options.iterations; t += options.log_every) {
    points.push_back(t);
  }
  points.push_back(options.iterations);
  return points;
}

std::vector<FeatureGroup> grouped(const SweepOptions& options, const std::vector<int64_t>& models) {
  const auto insert = [](std::vector<int64_t>& widths, int64_t width) {
    const auto place = std::lower_bound(widths.begin(), widths.end(), width);
    if (place == widths.end() || *place != width) {
      widths.insert(place, width);
    }
  };
  std::map<std::pair<int64_t, int64_t>, FeatureGroup> groups;
  for (const int64_t model : models) {
    const ModelPoint point = model_at(options, model);
    FeatureGroup& group = groups[{-point.d_in, point.seed}];
    group.features.seed = static_cast<uint64_t>(point.seed);
    group.features.d_in = point.d_in;
    group.features.activation = activation_by_name(options.activation);
    group.features.test_examples = options.test_examples;
    group.features.examples = std::max(group.features.examples, point.n);
    insert(group.features.h_teacher, point.h_teacher);
    insert(group.features.h_student, point.h_student);
    group.models.push_back(model);
  }
  std::vector<FeatureGroup> ordered;
  for (auto& [key, group] : groups) {
    // Many examples first: no thread is left with a long model at the end.
    std::stable_sort(group.models.begin(), group.models.end(), [&](int64_t a, int64_t b) {
      const ModelPoint left = model_at(options, a);
      const ModelPoint right = model_at(options, b);
      return left.n * left.h_student > right.n * right.h_student;
    });
    ordered.push_back(std::move(group));
  }
  return ordered;
}

std::vector<int64_t> models_of_shard(const SweepOptions& options) {
  std::vector<int64_t> models(static_cast<size_t>(models_in(options)));
  std::iota(models.begin(), models.end(), int64_t{0});
  const Shard shard = parse_shard(options.shard).value_or(Shard());
  if (shard.of == 1) {
    return models;
  }
  std::vector<int64_t> ordered;
  for (const auto& group : grouped(options, models)) {
    ordered.insert(ordered.end(), group.models.begin(), group.models.end());
  }
  const auto count = static_cast<int64_t>(ordered.size());
  const auto bound = [&](int64_t i) {
    return ordered.begin() + count / shard.of * i + std::min(i, count % shard.of);
  };
  return {bound(shard.number - 1), bound(shard.number)};
}

SweepOptions resolve_sweep_options(const SweepRequest& request) {
  const auto with_request = [&](SweepOptions options) {
    OptionList list = list_options(options);
    std::vector<std::string> chosen;
    if (!request.preset.empty()) {
      chosen = set_from_preset(list, find_preset(presets(), request.preset, request.origin));
    }
    const auto names = set_from_request(list, request.config_file, request.options, request.origin);
    chosen.insert(chosen.end(), names.begin(), names.end());
    imply_measure(options.protocol, chosen, options.measure);
    return options;
  };
  SweepOptions options = with_request({});
  std::error_code ignored;
  if (options.resume && std::filesystem::exists(options.out, ignored)) {
    // What is not said again is as in the file.
    return with_request(SweepReader(options.out).options());
  }
  return options;
}

void check_sweep_options(const SweepOptions& options) {
  SweepOptions copy = options;
  for (const auto& option : list_options(copy)) {
    option.check("");
  }
  check_sizes(options);
  check_duplicates(options);
  if (options.logits == 2 && options.loss != "cross-entropy") {
    refuse("logits", options.logits, "must be 1 where loss = " + options.loss);
  }
  check_protocol(options.protocol, options.measure);
  if (options.resume && options.overwrite) {
    refuse("overwrite", "yes", "must be no where resume = yes");
  }
}

std::string to_toml(const SweepOptions& options, bool with_docs) {
  SweepOptions copy = options;
  return to_toml(list_options(copy), with_docs);
}

std::string config_of(const SweepOptions& options) {
  SweepOptions copy = options;
  OptionList list = list_options(copy);
  list.erase(std::remove_if(list.begin(), list.end(),
                            [](const Option& option) { return option.group() == kRunGroup; }),
             list.end());
  return to_toml(list);
}

}  // namespace gradist::rf
