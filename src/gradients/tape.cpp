#include "gradients/tape.h"

#include "gradients/one_by_one.h"
#include "gradients/without_autocast.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/_unsafe_view.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>
#include <c10/core/GradMode.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/csrc/autograd/functions/accumulate_grad.h>
#include <torch/csrc/autograd/variable.h>

#include <algorithm>
#include <unordered_map>
#include <unordered_set>
#include <utility>

namespace gradist {
namespace {

using torch::autograd::Node;

/// Runs an operation whose inputs want no gradient as a node of the graph, so that autograd gets to
/// its output; the anchor is a leaf that wants one.
struct Anchored : torch::autograd::Function<Anchored> {
  static at::Tensor forward(torch::autograd::AutogradContext* /*context*/,
                            const at::Tensor& /*anchor*/,
                            const std::function<at::Tensor()>* operation) {
    const auto output = (*operation)();
    // What is a view of something that nobody else has may be changed in place like any other.
    return output.is_view() ? at::_unsafe_view(output, output.sizes()) : output;
  }
  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* /*context*/,
                                                 const torch::autograd::variable_list& /*grads*/) {
    return {at::Tensor(), at::Tensor()};
  }
};

/// The uses of one parameter: those whose gradients are rows (embeddings) and the others, joined
/// each. A head tied to an embedding stays apart from it, for a one-hot factor of all tokens would
/// be as large as all logits.
class Uses {
 public:
  void add(FactoredGradients use) {
    auto& former = use.one_hot().defined() ? rows_ : others_;
    former = former ? former->joined(use) : std::move(use);
  }

  bool any() const { return rows_ || others_; }

  FactoredGradients joined() const {
    return rows_ && others_ ? rows_->joined(*others_) : rows_ ? *rows_ : *others_;
  }

  /// ||g_i + h_i||^2 = ||g_i||^2 + 2 <g_i, h_i> + ||h_i||^2 where there are both kinds.
  NormsAndSum reduced() const {
    const WithoutAutocast without_autocast;
    if (!apart()) {
      return gradist::reduced(joined());
    }
    auto total = gradist::reduced(*rows_);
    const auto others = gradist::reduced(*others_);
    const auto cross = rows_->inner(*others_);
    total.squared_norms = total.squared_norms + others.squared_norms + 2 * cross;
    total.sum = total.sum + others.sum;
    total.method += ", " + others.method;
    return total;
  }

  /// Copies what a layer read, which may be changed later on; what is joined is a copy.
  void own_input() {
    if (apart()) {
      others_ = FactoredGradients(others_->activations().clone(), others_->backprops(),
                                  others_->shape(), others_->method());
    }
  }

 private:
  bool apart() const { return rows_ && others_ && rows_->inputs() == others_->inputs(); }

  std::optional<FactoredGradients> rows_, others_;
};

/// Whether a weight is no parameter itself but computed from parameters.
bool is_computed(const at::Tensor& weight) { return !weight.is_leaf(); }

/// The leaves that a computed weight hangs on.
std::vector<at::Tensor> leaves_of(const at::Tensor& weight) {
  std::vector<at::Tensor> leaves;
  std::vector<const Node*> open{weight.grad_fn().get()};
  std::unordered_set<const Node*> seen;
  while (!open.empty()) {
    const auto* node = open.back();
    open.pop_back();
    if (node == nullptr || !seen.insert(node).second) {
      continue;
    }
    if (const auto* leaf = dynamic_cast<const torch::autograd::AccumulateGrad*>(node)) {
      leaves.push_back(leaf->variable);
    }
    for (const auto& edge : node->next_edges()) {
      open.push_back(edge.function.get());
    }
  }
  return leaves;
}

NormsAndSum reduce(const FactoredGradients& gradients) {
  const WithoutAutocast without_autocast;
  return reduced(gradients);
}

/// On the CPU without an operation of torch's: a small model takes no longer than they do.
template <typename Scalar>
void add_on_cpu(const at::Tensor& norms, const at::Tensor& total) {
  const auto* from = norms.const_data_ptr<Scalar>();
  auto* to = total.data_ptr<double>();
  for (int64_t i = 0; i < total.numel(); ++i) {
    to[i] += static_cast<double>(from[i]);
  }
}

void add_norms(const at::Tensor& norms, const at::Tensor& total) {
  const bool plain = norms.is_cpu() && norms.is_contiguous() && total.is_cpu();
  if (plain && norms.scalar_type() == at::kFloat) {
    add_on_cpu<float>(norms, total);
  } else if (plain && norms.scalar_type() == at::kDouble) {
    add_on_cpu<double>(norms, total);
  } else {
    total.add_(norms.to(total.options()));
  }
}

}  // namespace

at::Tensor ReducedGradients::squared_norms() const {
  const c10::NoGradGuard no_grad;
  const auto& first = parameters.front().squared_norms;
  auto total = at::zeros(first.sizes(), first.options().dtype(at::kDouble));
  for (const auto& each : parameters) {
    add_norms(each.squared_norms, total);
  }
  return total;
}

void ReducedGradients::append(const ReducedGradients& part) {
  const c10::NoGradGuard no_grad;
  losses = at::cat({losses, part.losses});
  for (size_t l = 0; l < parameters.size(); ++l) {
    auto& own = parameters[l];
    own.squared_norms = at::cat({own.squared_norms, part.parameters[l].squared_norms});
    own.sum.add_(part.parameters[l].sum);
  }
}

/// One use of a layer, and its backprops once the hook has run.
struct Tape::Record {
  rules::Use use;
  at::Tensor backprops;
  std::vector<NormsAndSum> reduced;  ///< of the use's parameters, in order; empty: not reduced
};

/// What tape and hooks share, so that a hook may outlive its tape.
struct Tape::State {
  /// A use through a computed weight counts as more than one: it is never reduced at once.
  static constexpr int kThroughComputed = 2;

  Options options;
  BatchLayout layout;
  at::Tensor anchor;
  std::vector<std::shared_ptr<Record>> records;
  std::unordered_map<const at::TensorImpl*, int> uses;  ///< of each parameter
  std::unordered_set<const Node*> nodes;                ///< graph nodes of recorded outputs
  bool closed = false;
  bool followed = false;  ///< by the caller
  std::unordered_set<const at::TensorImpl*> differentiated_twice;
  int64_t twice = 0;

  /// Factors of parameters used several times or through a computed weight, once settled.
  std::unordered_map<const at::TensorImpl*, Uses> settled;

  bool several_uses(const at::Tensor& parameter) const {
    const auto found = uses.find(parameter.unsafeGetTensorImpl());
    return found != uses.end() && found->second > 1;
  }

  /// Whether autograd gets from this tensor to a recorded output.
  bool reaches_recorded(const at::Tensor& tensor) const;

  /// What the hook does.
  void receive(Record& record, const at::Tensor& backprops);

  std::vector<Uses> uses_of(const ParameterList& parameters) const;

  /// Adds what the uses of weights that were computed from parameters say of these.
  void pull_back(const Record& record, const LayerUse::Parameter& computed,
                 const ParameterList& parameters, std::vector<Uses>& found) const;
};

bool Tape::State::reaches_recorded(const at::Tensor& tensor) const {
  std::vector<const Node*> open{tensor.grad_fn().get()};
  std::unordered_set<const Node*> seen;
  while (!open.empty()) {
    const auto* node = open.back();
    open.pop_back();
    if (node == nullptr || !seen.insert(node).second) {
      continue;
    }
    if (nodes.count(node) > 0) {
      return true;
    }
    for (const auto& edge : node->next_edges()) {
      open.push_back(edge.function.get());
    }
  }
  return false;
}

void Tape::State::receive(Record& record, const at::Tensor& backprops) {
  if (closed) {
    return;
  }
  if (c10::GradMode::is_enabled()) {
    ++twice;
    for (const auto& each : record.use->parameters()) {
      differentiated_twice.insert(each.tensor.unsafeGetTensorImpl());
      if (is_computed(each.tensor)) {
        for (const auto& leaf : leaves_of(each.tensor)) {
          differentiated_twice.insert(leaf.unsafeGetTensorImpl());
        }
      }
    }
    return;
  }
  if (record.backprops.defined()) {  // a second backward pass over the same graph
    record.backprops = record.backprops + backprops;
    record.reduced.clear();
    return;
  }
  record.backprops = backprops;
  const auto& parameters = record.use->parameters();
  const bool once = std::all_of(parameters.begin(), parameters.end(), [&](const auto& each) {
    return uses.at(each.tensor.unsafeGetTensorImpl()) == 1 && !is_computed(each.tensor);
  });
  if (!options.reduce || !once) {
    return;
  }
  const c10::NoGradGuard no_grad;
  const WithoutAutocast without_autocast;
  record.reduced = record.use->norms_and_sums(backprops, *options.choices);
  if (!options.keep_factors) {
    record.use->release();
    record.backprops = at::empty({0}, backprops.options());
  }
}

Tape::Tape() : Tape(Options{}) {}

Tape::Tape(Options options) : state_(std::make_shared<State>()) {
  state_->layout.examples = options.examples;
  state_->options = std::move(options);
  if (!state_->options.choices) {
    state_->options.choices = std::make_shared<MethodChoices>();
  }
  state_->anchor = at::zeros({}, at::kFloat).requires_grad_(true);
}

Tape::~Tape() = default;

std::vector<size_t> Tape::differentiated_twice(const ParameterList& parameters) const {
  std::vector<size_t> found;
  for (size_t l = 0; l < parameters.size(); ++l) {
    if (state_->differentiated_twice.count(parameters[l].unsafeGetTensorImpl()) > 0) {
      found.push_back(l);
    }
  }
  return found;
}

int64_t Tape::twice() const { return state_->twice; }

void Tape::follow(int64_t examples) {
  state_->layout.examples = examples;
  state_->followed = true;
}

void Tape::settle(const ParameterList& parameters, const std::vector<at::Tensor>& inputs) {
  for (const auto& record : state_->records) {
    record->use->own_input(inputs);
  }
  ParameterList several;
  for (const auto& parameter : parameters) {
    if (state_->several_uses(parameter)) {
      several.push_back(parameter);
    }
  }
  auto found = state_->uses_of(several);
  for (size_t l = 0; l < several.size(); ++l) {
    if (found[l].any()) {
      found[l].own_input();
      state_->settled.emplace(several[l].unsafeGetTensorImpl(), found[l]);
    }
  }
}

rules::LinearProducts Tape::linear_products() const {
  const auto& options = state_->options;
  return {options.plain_outputs ? nullptr : options.choices,
          options.plain_backprops ? nullptr : options.choices};
}

int64_t Tape::examples() const { return state_->layout.examples; }

void Tape::close() { state_->closed = true; }

at::Tensor Tape::record(rules::Use use, const std::function<at::Tensor()>& plain,
                        bool sequence_first) {
  if (!c10::GradMode::is_enabled() || use->parameters().empty() || state_->closed) {
    return plain();
  }
  auto layout = state_->layout;
  layout.sequence_first = sequence_first;
  const auto& input = use->graph_input();
  if (layout.examples == 0 && input.dim() > (sequence_first ? 1 : 0)) {
    state_->layout.examples = layout.examples = input.size(sequence_first ? 1 : 0);
  }
  const bool from_recorded = input.requires_grad() && (state_->followed || input.is_leaf() ||
                                                       state_->reaches_recorded(input));
  const bool computed_from_recorded = std::any_of(
      use->parameters().begin(), use->parameters().end(), [&](const LayerUse::Parameter& each) {
        return is_computed(each.tensor) && state_->reaches_recorded(each.tensor);
      });
  if (!use->fits(layout) || (input.requires_grad() && !from_recorded) || computed_from_recorded) {
    return plain();
  }
  use->set_layout(layout);
  auto record = std::make_shared<Record>();
  record->use = std::move(use);
  at::Tensor output;
  if (from_recorded) {
    output = record->use->forward();
  } else {
    const std::function<at::Tensor()> forward = [&record] { return record->use->forward(); };
    output = Anchored::apply(state_->anchor, &forward);
  }
  for (const auto& each : record->use->parameters()) {
    ++state_->uses[each.tensor.unsafeGetTensorImpl()];
    if (is_computed(each.tensor)) {
      for (const auto& leaf : leaves_of(each.tensor)) {
        state_->uses[leaf.unsafeGetTensorImpl()] += State::kThroughComputed;
      }
    }
  }
  state_->nodes.insert(output.grad_fn().get());
  state_->records.push_back(record);
  // The hook sees the gradient of this very value, also when a later operation changes `output` in
  // place.
  output.register_hook([state = state_, record = std::move(record)](const at::Tensor& backprops) {
    state->receive(*record, backprops);
  });
  return output;
}

at::Tensor Tape::linear(const at::Tensor& input, const at::Tensor& weight, const at::Tensor& bias) {
  return record(rules::linear(input, weight, bias, linear_products()),
                [&] { return at::linear(input, weight, bias); });
}

/// Runs autograd; returns which parameters it reached, so the model also uses them outside the
/// table. Gradients of the parameters are asked for only to learn that; autograd does no work for
/// those it does not reach.
std::vector<size_t> Tape::differentiate(const at::Tensor& losses, const ParameterList& parameters) {
  TORCH_CHECK_VALUE(losses.dim() == 1,
                    "the loss must have one entry an example, [B] (reduction \"none\"), not shape ",
                    losses.sizes());
  std::vector<size_t> reached;
  if (!losses.requires_grad()) {
    return reached;
  }
  torch::autograd::variable_list leaves{state_->anchor};
  leaves.insert(leaves.end(), parameters.begin(), parameters.end());
  // Inputs that want gradients themselves: autograd goes no further than what it is asked for.
  for (const auto& leaf : leaves_of(losses)) {
    if (std::none_of(leaves.begin(), leaves.end(),
                     [&](const at::Tensor& each) { return each.is_same(leaf); })) {
      leaves.push_back(leaf);
    }
  }
  const auto outside = torch::autograd::grad({losses.sum()}, leaves, {}, /*retain_graph=*/false,
                                             /*create_graph=*/false, /*allow_unused=*/true);
  for (size_t l = 0; l < parameters.size(); ++l) {
    if (outside[l + 1].defined() ||
        state_->differentiated_twice.count(parameters[l].unsafeGetTensorImpl()) > 0) {
      reached.push_back(l);
    }
  }
  return reached;
}

template <typename Result, typename Recorded, typename Make>
std::vector<Result> Tape::measured(const at::Tensor& losses, const ParameterList& parameters,
                                   const LossOfExample& loss_of_example, const Recorded& recorded,
                                   const Make& make) {
  const auto uncovered = differentiate(losses, parameters);
  const auto examples = losses.size(0);
  auto known = recorded();
  close();
  std::vector<Result> results;
  for (size_t l = 0; l < parameters.size(); ++l) {
    results.push_back(known[l] ? *std::move(known[l])
                               : make(FactoredGradients::unused(parameters[l], examples)));
  }
  if (uncovered.empty()) {
    return results;
  }
  TORCH_CHECK_VALUE(loss_of_example, "parameter ", uncovered.front(),
                    " is used outside the layers with a rule, and no loss of a single example "
                    "was given to measure it");
  ParameterList remaining;
  for (const auto l : uncovered) {
    remaining.push_back(parameters[l]);
  }
  auto formed = one_by_one(loss_of_example, examples, remaining);
  for (size_t u = 0; u < uncovered.size(); ++u) {
    results[uncovered[u]] = make(std::move(formed[u]));
  }
  return results;
}

GradientBatch Tape::backward(const at::Tensor& losses, const ParameterList& parameters,
                             const LossOfExample& loss_of_example) {
  GradientBatch batch;
  batch.parameters = measured<FactoredGradients>(
      losses, parameters, loss_of_example, [&] { return factors(parameters); },
      [](FactoredGradients g) { return g; });
  batch.losses = losses.detach();
  for (const auto& parameter : batch.parameters) {
    TORCH_INTERNAL_ASSERT(parameter.size() == losses.size(0));
  }
  return batch;
}

ReducedGradients Tape::backward_reduced(const at::Tensor& losses, const ParameterList& parameters,
                                        const LossOfExample& loss_of_example) {
  ReducedGradients result;
  result.parameters = measured<NormsAndSum>(
      losses, parameters, loss_of_example, [&] { return norms_and_sums(parameters); }, reduce);
  result.losses = losses.detach();
  return result;
}

std::vector<std::optional<FactoredGradients>> Tape::factors(const ParameterList& parameters) const {
  const c10::NoGradGuard no_grad;
  std::vector<std::optional<FactoredGradients>> found;
  for (const auto& uses : state_->uses_of(parameters)) {
    found.push_back(uses.any() ? std::optional(uses.joined()) : std::nullopt);
  }
  return found;
}

bool Tape::complete() const {
  return std::all_of(state_->records.begin(), state_->records.end(),
                     [](const auto& record) { return record->backprops.defined(); });
}

std::vector<Uses> Tape::State::uses_of(const ParameterList& parameters) const {
  const c10::NoGradGuard no_grad;
  const WithoutAutocast without_autocast;
  std::vector<Uses> found(parameters.size());
  std::vector<bool> known(parameters.size());
  for (size_t l = 0; l < parameters.size(); ++l) {
    if (const auto kept = settled.find(parameters[l].unsafeGetTensorImpl());
        kept != settled.end()) {
      found[l] = kept->second;
      known[l] = true;
    }
  }
  for (const auto& record : records) {
    if (!record->backprops.defined()) {
      continue;
    }
    for (const auto& each : record->use->parameters()) {
      if (is_computed(each.tensor)) {
        if (!settled.empty()) {
          continue;
        }
        pull_back(*record, each, parameters, found);
        continue;
      }
      for (size_t l = 0; l < parameters.size(); ++l) {
        if (!known[l] && parameters[l].is_same(each.tensor)) {
          TORCH_CHECK(!record->use->released(),
                      "the factors of this pass were freed once reduced (keep_factors)");
          found[l].add(record->use->gradients(each, record->backprops));
        }
      }
    }
  }
  return found;
}

std::vector<std::optional<NormsAndSum>> Tape::norms_and_sums(
    const ParameterList& parameters) const {
  const c10::NoGradGuard no_grad;
  std::vector<std::optional<NormsAndSum>> found(parameters.size());
  std::vector<size_t> left;
  ParameterList several;  // used more than once, or through a computed weight
  for (size_t l = 0; l < parameters.size(); ++l) {
    bool reduced = false;
    if (!state_->several_uses(parameters[l])) {
      for (const auto& record : state_->records) {
        for (size_t p = 0; p < record->reduced.size(); ++p) {
          if (record->use->parameters()[p].tensor.is_same(parameters[l])) {
            found[l] = record->reduced[p];
            reduced = true;
          }
        }
      }
    }
    if (!reduced) {
      left.push_back(l);
      several.push_back(parameters[l]);
    }
  }
  const auto uses = state_->uses_of(several);
  for (size_t u = 0; u < left.size(); ++u) {
    if (uses[u].any()) {
      found[left[u]] = uses[u].reduced();
    }
  }
  return found;
}

/// Gradients g_i [B, *shape] of the computed weight, each through the graph that computed it.
void Tape::State::pull_back(const Record& record, const LayerUse::Parameter& computed,
                            const ParameterList& parameters, std::vector<Uses>& found) const {
  const auto gradients = record.use->gradients(computed, record.backprops);
  std::vector<std::vector<at::Tensor>> rows(parameters.size());
  for (int64_t i = 0; i < gradients.size(); ++i) {
    const auto of_example = gradients.slice(i, i + 1).dense().squeeze(0);
    const c10::AutoGradMode with_gradients(true);
    const auto pulled = torch::autograd::grad(
        {computed.tensor}, parameters, {of_example.to(computed.tensor.scalar_type())},
        /*retain_graph=*/true, /*create_graph=*/false, /*allow_unused=*/true);
    for (size_t l = 0; l < parameters.size(); ++l) {
      if (pulled[l].defined()) {
        rows[l].push_back(pulled[l]);
      }
    }
  }
  for (size_t l = 0; l < parameters.size(); ++l) {
    if (!rows[l].empty()) {
      found[l].add(FactoredGradients::from_dense(at::stack(rows[l]), parameters[l].sizes().vec(),
                                                 gradients.method()));
    }
  }
}

at::Tensor linear(Tape* tape, const at::Tensor& input, const at::Tensor& weight,
                  const at::Tensor& bias) {
  return tape != nullptr ? tape->linear(input, weight, bias) : at::linear(input, weight, bias);
}

}  // namespace gradist
