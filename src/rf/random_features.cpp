#include "rf/random_features.h"

#include "rf/kernels.h"
#include "rf/parallel.h"
#include "rf/philox.h"

#include <c10/util/Exception.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>
#include <utility>

namespace gradist::rf {

namespace {

using detail::Kernels;
using detail::kLanes;

// A block of inputs and a group of units are multiplied kDepth dimensions at a time, so that what a
// processor works on stays in its own cache.
constexpr int64_t kBlockRows = 240;  // a multiple of every level's tile_rows
constexpr int64_t kGroupPanels = 16;
constexpr int64_t kDepth = 512;
constexpr int64_t kNormalsAtOnce = 64;

int64_t rounded_up(int64_t number, int64_t to) { return (number + to - 1) / to * to; }

/// out_u = sigma(scale_u z_u) for `count` units.
void activate(Activation activation, const float* z, const float* scale, int64_t count,
              float* out) {
  const auto each = [&](const auto& sigma) {
    for (int64_t u = 0; u < count; ++u) {
      out[u] = sigma(z[u] * scale[u]);
    }
  };
  switch (activation) {
    case Activation::kRelu:
      return each([](float x) { return std::max(x, 0.0F); });
    case Activation::kTanh:
      return each([](float x) { return std::tanh(x); });
    case Activation::kSigmoid:
      return each([](float x) { return 1 / (1 + std::exp(-x)); });
    case Activation::kIdentity:
      return each([](float x) { return x; });
  }
}

/// Units of a layer, packed for Kernels::multiply: [panels][d_in][kLanes], and 1 / ||unit||.
class Units {
 public:
  Units(uint64_t seed, Stream stream, int64_t count, int64_t d_in, int64_t threads,
        const std::function<void()>& check)
      : d_in_(d_in),
        panels_(rounded_up(count, 2 * kLanes) / kLanes),
        packed_(panels_, d_in * kLanes),
        scale_(static_cast<size_t>(panels_ * kLanes)) {
    parallel_for(panels_, threads, [&](int64_t panel) {
      check();
      fill(seed, stream, panel);
    });
  }

  int64_t panels() const { return panels_; }
  const float* panel(int64_t p) const { return packed_.row(p); }
  const float* scales(int64_t unit) const { return scale_.data() + unit; }

 private:
  void fill(uint64_t seed, Stream stream, int64_t panel) {
    Rows<float> units(1, rounded_up(d_in_, kNormalsAtOnce));
    for (int64_t lane = 0; lane < kLanes; ++lane) {
      const int64_t unit = panel * kLanes + lane;
      detail::kernels().normals(seed, static_cast<uint32_t>(stream), static_cast<uint32_t>(unit),
                                units.stride(), units.data());
      double squares = 0;
      for (int64_t k = 0; k < d_in_; ++k) {
        const float number = units.data()[k];
        squares += static_cast<double>(number) * number;
        packed_.row(panel)[k * kLanes + lane] = number;
      }
      scale_[static_cast<size_t>(unit)] = static_cast<float>(1 / std::sqrt(squares));
    }
  }

  int64_t d_in_, panels_;
  Rows<float> packed_;
  std::vector<float> scale_;
};

/// Rows of inputs, packed for Kernels::multiply kDepth dimensions at a time.
class InputBlock {
 public:
  InputBlock(uint64_t seed, Stream stream, int64_t first, int64_t count, int64_t d_in)
      : tile_(detail::kernels().tile_rows),
        tiles_((count + tile_ - 1) / tile_),
        d_in_(d_in),
        packed_(1, tiles_ * tile_ * d_in) {
    Rows<float> input(1, rounded_up(d_in, kNormalsAtOnce));
    for (int64_t m = 0; m < count; ++m) {
      detail::kernels().normals(seed, static_cast<uint32_t>(stream),
                                static_cast<uint32_t>(first + m), input.stride(), input.data());
      for (int64_t k0 = 0; k0 < d_in; k0 += kDepth) {
        const int64_t depth = depth_at(k0);
        float* tile = at(k0) + m / tile_ * depth * tile_ + m % tile_;
        for (int64_t k = 0; k < depth; ++k) {
          tile[k * tile_] = input.data()[k0 + k];
        }
      }
    }
  }

  /// c [rows, kGroupPanels * kLanes] = inputs times units of `panels` panels from `panel` on.
  void multiply(const Units& units, int64_t panel, int64_t panels, Rows<float>& c) const {
    c.fill_zero();
    for (int64_t k0 = 0; k0 < d_in_; k0 += kDepth) {
      detail::kernels().multiply(at(k0), tiles_, units.panel(panel) + k0 * kLanes, panels, d_in_,
                                 depth_at(k0), c.data(), c.stride());
    }
  }

 private:
  int64_t depth_at(int64_t k0) const { return std::min(kDepth, d_in_ - k0); }
  const float* at(int64_t k0) const { return packed_.data() + k0 * tiles_ * tile_; }
  float* at(int64_t k0) { return packed_.data() + k0 * tiles_ * tile_; }

  int64_t tile_, tiles_, d_in_;
  Rows<float> packed_;
};

using Widths = std::vector<int64_t>;

/// Rows of inputs of one stream and where their features and teacher outputs go.
struct Destination {
  Stream stream;
  int64_t first, count;
  std::map<int64_t, Rows<float>>* features;
  std::map<int64_t, std::vector<double>>* outputs;
};

class FeatureMaker {
 public:
  FeatureMaker(const FeatureOptions& options, int64_t threads, std::function<void()> check)
      : options_(options),
        threads_(threads),
        check_(std::move(check)),
        teacher_(options.seed, Stream::kTeacherFeatures, widest(options.h_teacher), options.d_in,
                 threads, check_),
        student_(options.seed, Stream::kStudentFeatures, widest(options.h_student), options.d_in,
                 threads, check_),
        readout_(normals_of(Stream::kTeacherReadout, teacher_.panels() * kLanes)) {}

  FeatureSet make() {
    FeatureSet made;
    made.teacher_bias = normals_of(Stream::kTeacherBias, 1).front();
    std::vector<Destination> blocks;
    prepare(Stream::kInputs, options_.examples, made.train, made.teacher_train, blocks);
    prepare(Stream::kTestInputs, options_.test_examples, made.test, made.teacher_test, blocks);
    parallel_for(static_cast<int64_t>(blocks.size()), threads_,
                 [&](int64_t b) { fill(blocks[static_cast<size_t>(b)]); });
    return made;
  }

 private:
  static int64_t widest(const Widths& widths) {
    return widths.empty() ? 0 : *std::max_element(widths.begin(), widths.end());
  }

  std::vector<float> normals_of(Stream stream, int64_t count) const {
    Rows<float> row(1, rounded_up(count, kNormalsAtOnce));
    detail::kernels().normals(options_.seed, static_cast<uint32_t>(stream), 0, row.stride(),
                              row.data());
    return {row.data(), row.data() + count};
  }

  void prepare(Stream stream, int64_t count, std::map<int64_t, Rows<float>>& features,
               std::map<int64_t, std::vector<double>>& outputs,
               std::vector<Destination>& blocks) const {
    for (const int64_t width : options_.h_student) {
      features.emplace(width, Rows<float>(count, width + 1));
    }
    for (const int64_t width : options_.h_teacher) {
      outputs.emplace(width, std::vector<double>(static_cast<size_t>(count)));
    }
    for (int64_t first = 0; first < count; first += kBlockRows) {
      blocks.push_back({stream, first, std::min(kBlockRows, count - first), &features, &outputs});
    }
  }

  void fill(const Destination& to) const {
    const InputBlock inputs(options_.seed, to.stream, to.first, to.count, options_.d_in);
    Rows<float> products(kBlockRows, kGroupPanels * kLanes);
    for (int64_t panel = 0; panel < teacher_.panels(); panel += kGroupPanels) {
      const int64_t panels = std::min(kGroupPanels, teacher_.panels() - panel);
      check_();
      inputs.multiply(teacher_, panel, panels, products);
      activate_all(teacher_, panel * kLanes, panels * kLanes, to.count, products);
      add_outputs(products, panel * kLanes, panels * kLanes, to);
    }
    for (int64_t panel = 0; panel < student_.panels(); panel += kGroupPanels) {
      const int64_t panels = std::min(kGroupPanels, student_.panels() - panel);
      inputs.multiply(student_, panel, panels, products);
      activate_all(student_, panel * kLanes, panels * kLanes, to.count, products);
      store_features(products, panel * kLanes, panels * kLanes, to);
    }
  }

  void activate_all(const Units& units, int64_t first, int64_t count, int64_t rows,
                    Rows<float>& products) const {
    for (int64_t m = 0; m < rows; ++m) {
      float* row = products.row(m);
      activate(options_.activation, row, units.scales(first), count, row);
    }
  }

  /// t_i += sum_u theta_u sigma_iu over units [first, first + count) of each teacher.
  void add_outputs(const Rows<float>& activated, int64_t first, int64_t count,
                   const Destination& to) const {
    for (auto& [width, outputs] : *to.outputs) {
      const int64_t units = std::min(count, width - first);
      for (int64_t m = 0; m < to.count && units > 0; ++m) {
        const float* row = activated.row(m);
        outputs[static_cast<size_t>(to.first + m)] +=
            std::inner_product(row, row + units, readout_.data() + first, 0.0);
      }
    }
  }

  void store_features(const Rows<float>& activated, int64_t first, int64_t count,
                      const Destination& to) const {
    for (auto& [width, features] : *to.features) {
      const int64_t units = std::clamp<int64_t>(width - first, 0, count);
      for (int64_t m = 0; m < to.count; ++m) {
        float* row = features.row(to.first + m);
        std::copy_n(activated.row(m), units, row + first);
        row[width] = 1;
      }
    }
  }

  const FeatureOptions& options_;
  int64_t threads_;
  std::function<void()> check_;
  Units teacher_, student_;
  std::vector<float> readout_;
};

constexpr std::array<std::pair<const char*, Activation>, 4> kActivations = {
    {{"relu", Activation::kRelu},
     {"tanh", Activation::kTanh},
     {"sigmoid", Activation::kSigmoid},
     {"identity", Activation::kIdentity}}};

}  // namespace

const std::vector<std::string>& activation_names() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> list;
    for (const auto& [name, activation] : kActivations) {
      list.emplace_back(name);
    }
    return list;
  }();
  return names;
}

Activation activation_by_name(const std::string& name) {
  for (const auto& [known, activation] : kActivations) {
    if (name == known) {
      return activation;
    }
  }
  TORCH_CHECK_VALUE(false, "activation = ", name, ", must be one of relu|tanh|sigmoid|identity");
}

FeatureSet make_features(const FeatureOptions& options, int64_t threads,
                         const std::function<bool()>& stop) {
  const auto check = [&stop] {
    if (stop && stop()) {
      throw Stopped();
    }
  };
  return FeatureMaker(options, threads, check).make();
}

}  // namespace gradist::rf
