#include "trajectory/network_of_run.h"

#include "trajectory/random_streams.h"

namespace gradist {

std::unique_ptr<NetworkSource> network_of_run(const RunOptions& options, const Dataset& train,
                                              at::ScalarType type) {
  const auto model = model_options(options);
  const Loss loss = loss_for(model, train);
  auto generator = stream_generator(options.seed, RandomStream::kInitialisation);
  const auto network =
      make_network(model, train.example_shape(), train.outputs(), generator, train.sparse());
  const at::Device device(options.device);
  network->to(device, type);
  const Randomness randomness{
      .augmentation = augmentation_by_name(options.augment),
      .transform_seed = stream_seed(options.seed, RandomStream::kTransforms),
      .dropout_seed = stream_seed(options.seed, RandomStream::kDropout)};
  return std::make_unique<NetworkSource>(network, train.to(device, type), loss,
                                         options.label_smoothing, randomness,
                                         batch_norm_policy_by_name(options.batch_norm));
}

void scale_initial_weights(const RunOptions& options, const NetworkSource& source,
                           const MetaInitWatcher& watch) {
  if (options.init != kMetaInit) return;
  auto generator = stream_generator(options.seed, RandomStream::kNoise);
  metainit(source, metainit_options(options), generator, watch);
}

}  // namespace gradist
