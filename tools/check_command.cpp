#include "gradients/check.h"
#include "tools/command_line.h"
#include "tools/program.h"
#include "tools/text.h"
#include "trajectory/network_of_run.h"
#include "trajectory/run_options.h"

#include <ATen/ops/arange.h>
#include <c10/util/Exception.h>

#include <algorithm>
#include <iomanip>
#include <sstream>

namespace gradist::detail {

namespace {

constexpr const char* kHelpHead =
    R"(gradist check: per-example gradients of a network, as every measurement uses them, against plain
autograd, one example at a time. Prints the largest error of each parameter; exit status 1 if one
is more than rounding.

  gradist check
      the mlp of `gradist run` on its handwritten digits
  gradist check --data mnist --data-dir mnist --hidden 1024,1024 --precision float32

Defaults stand in [brackets]. For a PyTorch model of your own: gradist.check in Python.
)";

constexpr const char* kHelpTail = R"(
Program
  --config FILE             options from a TOML file, names as here: examples = 16
  --help                    print this, and stop
)";

/// Data and network as a run takes them, at its initial parameters, and what to check there.
struct CheckOptions {
  RunOptions run;
  int64_t examples = 16;
  std::string precision = "float64";

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor&& visit) {
    visit({"examples", "training examples to check, the first ones", "Check"}, self.examples,
          at_least<int64_t>(1));
    visit({"precision", "of data and network", "Check"}, self.precision,
          one_of({"float64", "float32"}));
    RunOptions::fields(self.run, [&](const OptionField& field, auto& value, const auto& rule) {
      const std::string name = field.name, group = field.group;
      if (group == "Data" || group == "Model" || name == "seed" || name == "device") {
        visit(field, value, rule);
      }
    });
  }
};

CheckOptions resolve(const CommandLine& line) {
  CheckOptions options;
  options.run.out.clear();
  auto list = list_options(options);
  set_from_request(list, line.text("config"), line.options, "--");
  check_run_options(options.run);
  return options;
}

GradientCheck check(const CheckOptions& options) {
  const auto data = load_data(data_options(options.run));
  TORCH_CHECK_VALUE(options.examples <= data.train.size(), "--examples = ", options.examples,
                    ", must be <= ", data.train.size(), ", the number of training examples");
  const auto type = options.precision == "float64" ? at::kDouble : at::kFloat;
  const auto source = network_of_run(options.run, data.train, type);
  scale_initial_weights(options.run, *source);
  return check_gradients(*source, at::arange(options.examples, at::kLong));
}

std::string shape_text(const std::vector<int64_t>& shape) {
  std::ostringstream text;
  text << at::IntArrayRef(shape);
  return text.str();
}

std::string table(const GradientCheck& found) {
  size_t name_width = 9, shape_width = 5, method_width = 4;
  for (const auto& each : found.parameters) {
    name_width = std::max(name_width, each.name.size());
    shape_width = std::max(shape_width, shape_text(each.shape).size());
    method_width = std::max(method_width, each.method.size());
  }
  std::ostringstream text;
  const auto row = [&](const std::string& name, const std::string& shape, const std::string& method,
                       const std::string& error) {
    text << std::left << std::setw(static_cast<int>(name_width + 2)) << name
         << std::setw(static_cast<int>(shape_width + 2)) << shape
         << std::setw(static_cast<int>(method_width + 2)) << method << error << "\n";
  };
  row("parameter", "shape", "rule", "largest error");
  for (const auto& each : found.parameters) {
    row(each.name, shape_text(each.shape), each.method,
        significant(each.error) + (each.error <= found.tolerance ? "" : "  WRONG"));
  }
  return text.str();
}

/// Parameters that no rule covers, in a line.
std::string uncovered(const GradientCheck& found) {
  std::string names;
  for (const auto& each : found.parameters) {
    if (each.method == "one-by-one") {
      names += (names.empty() ? "" : ", ") + each.name;
    }
  }
  return names.empty()
             ? "every parameter has a rule"
             : "without a rule, so measured one example at a time (exact, slow): " + names;
}

}  // namespace

int check_command(const std::vector<std::string>& arguments, const ProgramFaces& faces) {
  CheckOptions defaults;
  const auto line = read_command_line(
      arguments, {.command = "gradist check", .switches = {"help"}, .texts = {"config"}},
      list_options(defaults));
  if (line.has("help")) {
    faces.out << kHelpHead + option_help(list_options(defaults)) + kHelpTail;
    return kDone;
  }
  const auto found = check(resolve(line));
  faces.out << table(found) << "\n"
            << counted(found.examples, "example")
            << " against one backward pass each; largest relative error "
            << significant(found.largest()) << "\n"
            << "scale: sum; g_i is the gradient of example i's loss\n"
            << uncovered(found) << "\n"
            << (found.ok() ? "ok: every error is rounding" : "WRONG: errors beyond rounding")
            << " (<= " << significant(found.tolerance) << ")\n";
  return found.ok() ? kDone : kFailed;
}

}  // namespace gradist::detail
