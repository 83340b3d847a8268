#pragma once

#include <ATen/core/Tensor.h>

#include <cstddef>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

namespace gradist {

/// What one pass over per-example gradients g_i gives at the price of their sum.
struct NormsAndSum {
  at::Tensor squared_norms;  ///< ||g_i||^2, [B]
  at::Tensor sum;            ///< sum_i g_i, of the parameter's shape
  std::string method;        ///< the layer rule, as `coverage` shows it: "conv"
  std::string reason;        ///< which way it was computed and why; empty where there is one way
};

/// Which way to compute a quantity where there are several, per layer and shape.
///
/// A choice is looked up in the table; else, where `measure` says so, every way is tried once and
/// the fastest kept; else the way with the fewest operations is taken. Trying is for per_example,
/// check and benchmarks only: what decides in `run`, `cluster` and `measure` is the count of
/// operations or a table read from a file, so that they stay bit-identical.
class MethodChoices {
 public:
  template <typename Result>
  struct Way {
    std::string name;   ///< "grouped convolution"
    double operations;  ///< multiply-adds a batch, weighted by how slow they are: the prior
    std::function<Result()> compute;
  };
  struct Choice {
    std::string way, reason;
  };

  explicit MethodChoices(bool measure = false) : measure_(measure) {}

  /// Computes by the chosen way, which norms and sums name; `layer` names layer, shapes, type and
  /// threads.
  template <typename Result>
  Result compute(const std::string& layer, const std::vector<Way<Result>>& ways) {
    std::vector<Trial> trials;
    for (const auto& way : ways) {
      trials.push_back({way.name, way.operations, [&way] { finish(way.compute()); }});
    }
    const auto [way, choice] = choose(layer, trials);
    auto result = ways[way].compute();
    if constexpr (std::is_same_v<Result, NormsAndSum>) {
      result.reason = choice.way + " (" + choice.reason + ")";
    }
    return result;
  }

  /// The way that is chosen for what is not a layer's, such as how a batch goes through a model;
  /// none where the table has no entry.
  std::optional<std::string> way(const std::string& what) const;
  void keep(const std::string& what, const std::string& way, const std::string& reason);

  /// A table of choices as TOML: [choices] "layer" = "way". Reading refuses anything else, naming
  /// the file.
  void read(const std::string& path);
  void write(const std::string& path) const;

  const std::map<std::string, Choice>& choices() const { return choices_; }

 private:
  /// Waits for what a device still computes of a result.
  static void finish(const at::Tensor& result);
  static void finish(const NormsAndSum& result) { finish(result.sum); }

  /// A way without its result.
  struct Trial {
    std::string_view name;
    double operations;
    std::function<void()> run;
  };
  struct Chosen {
    size_t way;  ///< its number
    const Choice& choice;
  };
  Chosen choose(const std::string& layer, const std::vector<Trial>& ways);
  static const Trial& fewest_operations(const std::vector<Trial>& ways);
  static Choice fastest(const std::vector<Trial>& ways);

  bool measure_;
  std::map<std::string, Choice> choices_;
};

}  // namespace gradist
