/// What all squared gradient norms and the mean gradient cost beside a plain forward and backward
/// pass, in C++.
///
/// For each network one batch of 128 random examples, float32 on the CPU: the time of the taped
/// pass, which gives ||g_i||^2 of every example and sum_i g_i, over that of a plain pass of the
/// same network and batch, which gives the sum. Both in one process, interleaved round by round
/// with the order swapped; the ratio is the median of the rounds'. The chunk is the fastest of B,
/// B/2, B/4, ..., tried before. Before any timing the two sums must agree to 1e-3 of their norm,
/// and the norms with those of the factors of a second taped pass, while outputs keep torch's bits;
/// as it is timed, where a ReLU's input within rounding of 0 may fall on the other side and move
/// the sum by some 1e-3, to 1e-2. benchmarks/per_example_norms.py has the same for torch modules,
/// beside peers.
///
///   build/dev/bin/per_example_norms [rounds [model ...]]

#include "gradients/tape.h"
#include "models/losses.h"
#include "models/network.h"

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Parallel.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string>
#include <vector>

namespace gradist {
namespace {

constexpr int64_t kBatch = 128;
constexpr int64_t kClasses = 10;
constexpr double kHopeless = 1.1;  // a chunk so much slower ends the search for smaller ones

struct Case {
  std::string name;
  ModelOptions options;
  std::vector<int64_t> example;
  double target;
};

std::vector<Case> cases() {
  return {{"mlp", {.model = "mlp", .hidden = {1024, 1024}}, {784}, 1.02},
          {"cnn", {.model = "cnn"}, {1, 28, 28}, 1.15},
          {"resnet8", {.model = "resnet8"}, {3, 32, 32}, 1.10},
          {"resnet32", {.model = "resnet32"}, {3, 32, 32}, 1.08},
          {"vgg11", {.model = "vgg11"}, {3, 32, 32}, 1.15}};
}

double seconds_of(const std::function<void()>& pass) {
  const auto start = std::chrono::steady_clock::now();
  pass();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

double median(std::vector<double> values) {
  std::ranges::sort(values);
  const size_t half = values.size() / 2;
  return values.size() % 2 == 1 ? values[half] : (values[half - 1] + values[half]) / 2;
}

struct NormsAndGradient {
  at::Tensor squared_norms;  ///< ||g_i||^2, [B] float64
  ParameterList gradient;    ///< sum_i g_i
};

at::Tensor total_of(const std::vector<NormsAndSum>& parameters) {
  at::Tensor total = parameters.front().squared_norms.to(at::kDouble);
  for (size_t l = 1; l < parameters.size(); ++l) {
    total = total + parameters[l].squared_norms;
  }
  return total;
}

/// Over the expected one's square.
double squared_error(const ParameterList& found, const ParameterList& expected) {
  double difference = 0, size = 0;
  for (size_t l = 0; l < expected.size(); ++l) {
    difference += (found[l] - expected[l]).square().sum().item<double>();
    size += expected[l].square().sum().item<double>();
  }
  return difference / size;
}

class Problem {
 public:
  explicit Problem(const Case& which) {
    auto generator = at::make_generator<at::CPUGeneratorImpl>(0);
    network_ = make_network(which.options, which.example, kClasses, generator);
    for (const auto& parameter : network_->parameters()) {
      parameters_.push_back(parameter);
    }
    std::vector<int64_t> shape = which.example;
    shape.insert(shape.begin(), kBatch);
    inputs_ = at::randn(shape, generator);
    targets_ = at::randint(0, kClasses, {kBatch}, generator, at::kLong);
  }

  ParameterList plain() const {
    const at::Tensor losses =
        example_losses(Loss::kCrossEntropy, network_->forward(inputs_), targets_);
    return torch::autograd::grad({losses.sum()}, parameters_);
  }

  NormsAndGradient taped(int64_t chunk, bool plain_outputs = false) const {
    NormsAndGradient result;
    std::vector<at::Tensor> norms;
    for (int64_t begin = 0; begin < kBatch; begin += chunk) {
      const ReducedGradients part = taped(begin, std::min(chunk, kBatch - begin), plain_outputs);
      norms.push_back(total_of(part.parameters));
      for (size_t l = 0; l < part.parameters.size(); ++l) {
        const at::Tensor& sum = part.parameters[l].sum;
        if (begin == 0) {
          result.gradient.push_back(sum);
        } else {
          result.gradient[l].add_(sum);
        }
      }
    }
    result.squared_norms = at::cat(norms);
    return result;
  }

  int64_t fastest_chunk() const {
    int64_t best = kBatch;
    double least = fastest_of_three(best);
    for (int64_t chunk = kBatch / 2; chunk > 0; chunk /= 2) {
      const double seconds = fastest_of_three(chunk);
      if (seconds > kHopeless * least) {
        break;
      }
      if (seconds < least) {
        best = chunk;
        least = seconds;
      }
    }
    return best;
  }

  /// Ends the program where the two passes disagree.
  void check(int64_t chunk) const {
    const NormsAndGradient exact = taped(chunk, /*plain_outputs=*/true);
    const ParameterList expected = plain();
    Tape tape;
    const at::Tensor losses =
        example_losses(Loss::kCrossEntropy, network_->forward(inputs_, &tape), targets_);
    const at::Tensor norms = tape.backward(losses, parameters_).squared_norms();
    if (squared_error(exact.gradient, expected) > 1e-6 ||
        squared_error(taped(chunk).gradient, expected) > 1e-4 ||
        !at::allclose(norms, exact.squared_norms, /*rtol=*/1e-3) ||
        !at::allclose(norms, taped(chunk).squared_norms, /*rtol=*/1e-3)) {
      std::fprintf(stderr, "the taped pass and the plain one differ\n");
      std::exit(1);
    }
  }

 private:
  ReducedGradients taped(int64_t begin, int64_t count, bool plain_outputs) const {
    Tape tape({.examples = count,
               .reduce = true,
               .keep_factors = false,
               .choices = choices_,
               .plain_outputs = plain_outputs,
               .plain_backprops = false});
    const at::Tensor outputs = network_->forward(inputs_.narrow(0, begin, count), &tape);
    return tape.backward_reduced(
        example_losses(Loss::kCrossEntropy, outputs, targets_.narrow(0, begin, count)),
        parameters_);
  }

  double fastest_of_three(int64_t chunk) const {
    taped(chunk);  // chooses the layers' ways for this shape
    double least = seconds_of([&] { taped(chunk); });
    for (int again = 0; again < 2; ++again) {
      least = std::min(least, seconds_of([&] { taped(chunk); }));
    }
    return least;
  }

  std::shared_ptr<Network> network_;
  ParameterList parameters_;
  at::Tensor inputs_, targets_;
  std::shared_ptr<MethodChoices> choices_ = std::make_shared<MethodChoices>(/*measure=*/true);
};

void measure(const Case& which, int rounds) {
  const Problem problem(which);
  const int64_t chunk = problem.fastest_chunk();
  problem.check(chunk);
  std::vector<double> ratios, plain_seconds;
  for (int round = 0; round < rounds; ++round) {
    const std::function<void()> passes[] = {[&] { problem.plain(); },
                                            [&] { problem.taped(chunk); }};
    double seconds[2];
    for (int turn = 0; turn < 2; ++turn) {
      const int which_pass = (round + turn) % 2;
      seconds[which_pass] = seconds_of(passes[which_pass]);
    }
    plain_seconds.push_back(seconds[0]);
    ratios.push_back(seconds[1] / seconds[0]);
  }
  std::printf("%-9s %9.1f ms %8.2f %8.2f %7ld\n", which.name.c_str(), 1e3 * median(plain_seconds),
              median(ratios), which.target, static_cast<long>(chunk));
  std::fflush(stdout);
}

int run(int count, char** arguments) {
  const int rounds = count > 1 ? std::atoi(arguments[1]) : 15;
  if (rounds < 1) {
    std::fprintf(stderr, "rounds = %s, must be >= 1\n", arguments[1]);
    return 2;
  }
  const std::vector<std::string> wanted(arguments + std::min(count, 2), arguments + count);
  std::printf("%d threads, median of %d rounds\n%-9s %12s %8s %8s %7s\n", at::get_num_threads(),
              rounds, "model", "plain", "ratio", "target", "chunk");
  for (const Case& which : cases()) {
    if (wanted.empty() || std::ranges::find(wanted, which.name) != wanted.end()) {
      measure(which, rounds);
    }
  }
  return 0;
}

}  // namespace
}  // namespace gradist

int main(int count, char** arguments) { return gradist::run(count, arguments); }
