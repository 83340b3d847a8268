#pragma once

#include "models/network_source.h"

#include <ATen/core/Generator.h>
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>

namespace gradist {

/// MetaInit: the weights that a network was given are scaled until a gradient step would change
/// its gradient little, before any training. [Dauphin19]; [Apostolov21] eq. 2.13, section 4.3.
///
/// With g = grad L of a minibatch, H its Hessian and P parameters, the *gradient quotient* is
///
///   Q = (1/P) sum_j |(g - H g)_j / (g_j + e_j) - 1|,   e_j = epsilon if g_j >= 0, else -epsilon
///
/// where g - H g is g(theta - g) to first order: as if the loss were a plane where Q is near zero.
/// Q stays on the graph of `loss` and can be differentiated.
at::Tensor gradient_quotient(const at::Tensor& loss, const ParameterList& parameters,
                             double epsilon);

/// The defaults are those of [Apostolov21] section 4.3, which says "200 epochs".
struct MetaInitOptions {
  int64_t steps = 200;
  int64_t batch_size = 128;  ///< examples of noise in a step
  double lr = 0.1;           ///< of the norms
  double momentum = 0.9;
  double epsilon = 1e-5;
};

/// Told the quotient after s = 0, 1, ... steps.
using MetaInitWatcher = std::function<void(int64_t step, double quotient)>;

/// Scales each weight W_l of two or more dimensions; directions, biases and scales stay. A step
/// moves the norms n_l = ||W_l|| by the signs of their slopes,
///
///   v_l <- momentum v_l - lr sign(dQ/dn_l),   n_l <- n_l + v_l,
///
/// on a minibatch of noise of its own: inputs N(0, 1), which is the scale of standardised data, and
/// then targets drawn uniformly from the classes (N(0, 1) for numbers). No data is looked at. A
/// norm that a step would take to zero or below is halved instead and its v_l forgotten.
///
/// Costs three nested backward passes a step, and the memory of the first two. The network must be
/// in eval mode, its inputs dense.
void metainit(const NetworkSource& source, const MetaInitOptions& options, at::Generator& generator,
              const MetaInitWatcher& watch = {});

}  // namespace gradist
