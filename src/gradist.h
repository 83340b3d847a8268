#pragma once

/// All of gradist's public API in one page, from the bottom up. Include the single headers where
/// compile time matters.

// How a struct of options names, documents and checks its fields.
#include "options.h"
#include "preset.h"

// Per-example gradients: recorded by a tape, kept in factors, never formed where that costs more.
#include "gradients/check.h"
#include "gradients/factored_gradients.h"
#include "gradients/gradient_batch.h"
#include "gradients/gradient_source.h"
#include "gradients/kernels.h"
#include "gradients/layer_rules.h"
#include "gradients/layer_use.h"
#include "gradients/method_choice.h"
#include "gradients/one_by_one.h"
#include "gradients/tape.h"
#include "gradients/visit.h"

// Data sets.
#include "data/augmentation.h"
#include "data/cifar.h"
#include "data/dataset.h"
#include "data/digits.h"
#include "data/hdf5_data.h"
#include "data/image_folder.h"
#include "data/input_scale.h"
#include "data/mnist.h"
#include "data/stored_images.h"
#include "data/stored_inputs.h"
#include "data/tables.h"
#include "data/transforms.h"

// Networks and losses.
#include "models/activation.h"
#include "models/batch_norm_policy.h"
#include "models/densenet.h"
#include "models/dropout_layer.h"
#include "models/image_network.h"
#include "models/initialisation.h"
#include "models/lenet.h"
#include "models/linear_model.h"
#include "models/losses.h"
#include "models/metainit.h"
#include "models/mlp.h"
#include "models/network.h"
#include "models/network_source.h"
#include "models/resnet.h"
#include "models/sequence.h"
#include "models/small_cnn.h"
#include "models/vgg.h"

// Gradient Clustering.
#include "gc/allocation.h"
#include "gc/clustering.h"
#include "gc/descent.h"
#include "gc/lloyd.h"
#include "gc/objective.h"
#include "gc/sampling_design.h"

// Estimators of the full gradient, and their moments.
#include "estimators/gradient_clustering.h"
#include "estimators/gradient_estimator.h"
#include "estimators/importance.h"
#include "estimators/measurement.h"
#include "estimators/minibatch.h"
#include "estimators/moments.h"
#include "estimators/svrg.h"

// A measured run of SGD, and its trace.
#include "trajectory/network_of_run.h"
#include "trajectory/observer.h"
#include "trajectory/presets.h"
#include "trajectory/run_options.h"
#include "trajectory/sgd_trajectory.h"
#include "trajectory/trace_reader.h"
#include "trajectory/trajectory_step.h"
