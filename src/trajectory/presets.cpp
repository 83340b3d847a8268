#include "trajectory/presets.h"

namespace gradist {
namespace {

// ---- What needs to be there

constexpr const char* kNothing = "bundled digits";
constexpr const char* kMnistFiles = "mnist: its four files in --data-dir";
constexpr const char* kCifar10Files = "cifar10: its five training files and its test file";
constexpr const char* kCifar100Files = "cifar100: train.bin and test.bin";
constexpr const char* kSomeCifar10 = "cifar10: one training file and some test images will do";

// ---- [Faghri20] Table 2 and appendix C.1

constexpr const char* kFaghriMnist = R"(
data = "mnist"
model = "mlp"
hidden = [1024, 1024]
estimator = ["sg-b", "sg-2b", "svrg", "gc"]
batch-size = 128
iterations = 50000
log-every = 500
draws = 50
refresh-every = 2000
gc-iterations = 10
lr = 0.02
weight-decay = 5e-4
momentum = 0.5
)";

/// Both CIFAR rows but for data, network and learning rate. Images are transformed as the text says
/// in passing ("common data augmentations"), anew in each epoch: between refreshes there are 51.
constexpr const char* kFaghriCifar = R"(
augment = "crop-flip"
transform-locking = "off"
estimator = ["sg-b", "sg-2b", "svrg", "gc"]
batch-size = 128
iterations = 80000
log-every = 500
draws = 50
refresh-every = 20000
gc-iterations = 3
weight-decay = 5e-4
momentum = 0.9
lr-drop = [40000, 60000]
)";

constexpr const char* kResnet8OnCifar10 = R"(
data = "cifar10"
model = "resnet8"
lr = 0.01
)";

/// That ResNet-32 has batch norm is read from its learning rate: the text says "no batch
/// normalization layer" of ResNet-8 alone.
constexpr const char* kResnet32OnCifar100 = R"(
data = "cifar100"
model = "resnet32"
norm = "batch"
lr = 0.1
)";

/// The text gives neither the smoothing, which is that of [Szegedy16], nor the numbers of points.
constexpr const char* kSmoothed = "label-smoothing = 0.1\n";
constexpr const char* kCorrupt = "label-corruption = 0.1\n";
constexpr const char* kHalfDuplicates = "duplicates = \"100,0.5\"\n";

/// With the drops of the learning rate where the paper has them, at a half and at three quarters.
constexpr const char* kSmallFaghriCifar = R"(
data = "cifar10"
log-every = 25
refresh-every = 100
measure = "subset"
measure-examples = 1000
)";
constexpr const char* kSmallResnet8 = R"(
width = 0.5
iterations = 400
lr-drop = [200, 300]
)";
constexpr const char* kSmallResnet32 = R"(
width = 0.25
iterations = 200
lr-drop = [100, 150]
)";

/// Mirrored digits are none, so these stay as they are.
constexpr const char* kSmallOnDigits = R"(
data = "digits"
augment = "none"
transform-locking = "on"
model = "mlp"
iterations = 1000
log-every = 50
refresh-every = 250
lr-drop = [500, 750]
)";

// ---- [Defazio19] sections 2, 3, 5 and 8

/// A run of SVRG, transforms locked and batch norm reset; a snapshot an epoch of 390 steps. The
/// draws of a measurement are as many as an epoch has batches: the paper took a pass over the data.
constexpr const char* kDefazio = R"(
data = "cifar10"
augment = "crop-flip"
norm = "batch"
drive = "svrg"
estimator = ["sg-b", "svrg"]
replacement = false
batch-size = 128
refresh-every = 390
measure = "sampled"
lr = 0.1
momentum = 0.9
weight-decay = 1e-4
)";

constexpr const char* kReset = "batch-norm = \"reset\"\n";
constexpr const char* kLenet5 = "model = \"lenet5\"\n";
constexpr const char* kDensenet40 = "model = \"densenet40\"\n";

/// 250 epochs. The percentages are the paper's; "equally spaced epochs" are every tenth here.
/// Distance and curvature are followed in epochs 0, 50, ..., 200.
constexpr const char* kVarianceRatio = R"(
iterations = 97500
lr-drop = [58500, 85800]
log-at = [0.02, 0.11, 0.33, 1.0]
log-at-every = 10
drift-every = 50
draws = 390
)";

/// Ten epochs of 78 steps with 10,000 images.
constexpr const char* kSmallVarianceRatio = R"(
refresh-every = 78
iterations = 780
lr-drop = [468, 686]
log-at-every = 3
drift-every = 3
draws = 20
)";

/// Three epochs: enough for a deep network to move away from its snapshots.
constexpr const char* kSmallDeepVarianceRatio = R"(
refresh-every = 78
iterations = 234
lr-drop = [140, 206]
log-at-every = 2
drift-every = 2
draws = 10
)";

/// Two epochs of LeNet, followed closely.
constexpr const char* kLocking = R"(
iterations = 780
log-at = [0.0, 0.02, 0.05, 0.11, 0.22, 0.33, 0.5, 0.66, 0.83, 1.0]
draws = 390
)";

constexpr const char* kSmallLocking = R"(
refresh-every = 78
iterations = 156
draws = 20
)";

constexpr const char* kUnlocked = "transform-locking = \"off\"\n";

/// Five epochs of LeNet: what is shown is the tested network.
constexpr const char* kRunningStatistics = R"(
iterations = 1950
log-at = [0.5, 1.0]
draws = 10
)";

constexpr const char* kSmallRunningStatistics = R"(
refresh-every = 78
iterations = 312
draws = 3
)";

constexpr const char* kNotReset = "batch-norm = \"train\"\n";

/// Ten percent averaged, in the run of kVarianceRatio; 0.5, 1 and 0 are compared with it by
/// `--iterate-averaging`. What it shows is the test error of the mean iterates.
constexpr const char* kIterateAveraging = R"(
iterate-averaging = 0.1
iterations = 97500
lr-drop = [58500, 85800]
log-every = 390
draws = 10
)";

/// Ten epochs of 78 steps with 10,000 images.
constexpr const char* kSmallIterateAveraging = R"(
refresh-every = 78
iterations = 780
lr-drop = [468, 686]
log-every = 78
draws = 3
)";

/// Section 8's steps by SGD, with its drops at 150 and 225 epochs. What it shows is the test error;
/// the variance of these steps is measured beside it.
constexpr const char* kDefazioSgd = R"(
data = "cifar10"
augment = "crop-flip"
transform-locking = "off"
norm = "batch"
estimator = ["sg-b"]
replacement = false
batch-size = 128
iterations = 97500
log-every = 390
measure = "sampled"
draws = 10
lr = 0.1
momentum = 0.9
weight-decay = 1e-4
lr-drop = [58500, 87750]
)";

/// Ten epochs of 78 steps with 10,000 images, or three.
constexpr const char* kSmallDefazioSgd = R"(
iterations = 780
log-every = 78
lr-drop = [468, 702]
)";

constexpr const char* kSmallDeepDefazioSgd = R"(
width = 0.0625
iterations = 234
log-every = 78
lr-drop = [140, 211]
)";

// ---- [Apostolov21] chapter 4

constexpr const char* kApostolov = R"(
estimator = ["sg-b", "svrg"]
momentum = 0
weight-decay = 0
seed = 1
)";

/// A hundred epochs.
constexpr const char* kLenetOnMnist = R"(
data = "mnist"
model = "lenet5-average"
batch-size = 32
iterations = 187500
log-every = 1875
refresh-every = 1875
)";

constexpr const char* kSmallLenet = R"(
iterations = 3750
log-every = 625
measure = "subset"
measure-examples = 2000
)";

/// 200 epochs of SGD; SVRG has 150 on ResNet-18 and 200 on ResNet-101. With a snapshot an epoch
/// locked transforms are new ones in each epoch, as in plain training.
constexpr const char* kApostolovCifar = R"(
augment = "crop-flip"
batch-size = 128
log-every = 3900
refresh-every = 390
)";

constexpr const char* kBySubset = R"(
measure = "subset"
measure-examples = 1000
)";

/// By the batch examples do not separate.
constexpr const char* kByDraws = R"(
measure = "sampled"
draws = 50
)";

constexpr const char* k150Epochs = "iterations = 58500\n";
constexpr const char* k200Epochs = "iterations = 78000\n";
constexpr const char* kBySvrg = "drive = \"svrg\"\n";
constexpr const char* kBatchNorm = "norm = \"batch\"\n";

constexpr const char* kResnet18OnCifar10 = R"(
data = "cifar10"
model = "resnet18-cifar"
)";

constexpr const char* kResnet101OnCifar100 = R"(
data = "cifar100"
model = "resnet101-cifar"
)";

/// Three epochs of 78 steps with 10,000 images.
constexpr const char* kSmallResnet18 = R"(
width = 0.125
iterations = 234
log-every = 39
refresh-every = 78
)";

constexpr const char* kSmallResnet101 = R"(
data = "cifar10"
width = 0.0625
iterations = 156
log-every = 39
refresh-every = 78
)";

constexpr const char* kSmallSubset = "measure-examples = 500\n";
constexpr const char* kSmallDraws = "draws = 10\n";

std::vector<Experiment> experiments() {
  return {
      {"faghri-mnist-mlp",
       "[Faghri20] Figs. 3a, 3d; Table 2: variances of an MLP on MNIST",
       kMnistFiles,
       "3 h",
       kMnistFiles,
       "1 min",
       {kFaghriMnist},
       {"hidden = [128, 128]\niterations = 1000\nlog-every = 100\nrefresh-every = 250\n"}},
      {"faghri-cifar10-resnet8",
       "[Faghri20] Figs. 3b, 3e; Table 2: variances of ResNet-8 on CIFAR-10",
       kCifar10Files,
       "15 h",
       kSomeCifar10,
       "3 min",
       {kFaghriCifar, kResnet8OnCifar10},
       {kSmallFaghriCifar, kSmallResnet8}},
      {"faghri-cifar10-label-smoothing",
       "[Faghri20] Fig. 6: CIFAR-10 with smoothed labels",
       kCifar10Files,
       "15 h",
       kSomeCifar10,
       "4 min",
       {kFaghriCifar, kResnet8OnCifar10, kSmoothed},
       {kSmallFaghriCifar, kSmallResnet8}},
      {"faghri-cifar10-corrupt-labels",
       "[Faghri20] Fig. 6: CIFAR-10 with 10 % corrupt labels",
       kCifar10Files,
       "15 h",
       kSomeCifar10,
       "4 min",
       {kFaghriCifar, kResnet8OnCifar10, kCorrupt},
       {kSmallFaghriCifar, kSmallResnet8}},
      {"faghri-cifar10-duplicates",
       "[Faghri20] Fig. 7: duplicates in CIFAR-10 (small: in the digits)",
       kCifar10Files,
       "15 h",
       kNothing,
       "1 min",
       {kFaghriCifar, kResnet8OnCifar10, kHalfDuplicates},
       {kSmallOnDigits}},
      {"faghri-cifar100-resnet32",
       "[Faghri20] Table 2: variances of ResNet-32 on CIFAR-100 (small: on CIFAR-10)",
       kCifar100Files,
       "4 days",
       kSomeCifar10,
       "~8 min",
       {kFaghriCifar, kResnet32OnCifar100},
       {kSmallFaghriCifar, kSmallResnet32}},
      {"faghri-cifar100-duplicates",
       "[Faghri20] Fig. 7: duplicates in CIFAR-100 (small: in CIFAR-10)",
       kCifar100Files,
       "4 days",
       kSomeCifar10,
       "~8 min",
       {kFaghriCifar, kResnet32OnCifar100, kHalfDuplicates},
       {kSmallFaghriCifar, kSmallResnet32}},

      {"defazio-lenet5",
       "[Defazio19] Figs. 2a, 3: a run of SVRG, LeNet-5 with batch norm",
       kCifar10Files,
       "1 h",
       kSomeCifar10,
       "3 min",
       {kDefazio, kReset, kVarianceRatio, kLenet5},
       {kSmallVarianceRatio}},
      {"defazio-densenet40",
       "[Defazio19] Figs. 2b, 3: the same, DenseNet-40 of growth 36",
       kCifar10Files,
       "2 months",
       kSomeCifar10,
       "~12 min",
       {kDefazio, kReset, kVarianceRatio, kDensenet40},
       {kSmallDeepVarianceRatio, "width = 0.0625\n"}},
      {"defazio-resnet-small",
       "[Defazio19] Fig. 2c: the same, the small ResNet",
       kCifar10Files,
       "21 h",
       kSomeCifar10,
       "~8 min",
       {kDefazio, kReset, kVarianceRatio, "model = \"resnet20\"\nwidth = 0.5\n"},
       {kSmallDeepVarianceRatio, "width = 0.25\n"}},
      {"defazio-resnet110",
       "[Defazio19] Fig. 2d: the same, ResNet-110",
       kCifar10Files,
       "3 weeks",
       kSomeCifar10,
       "~13 min",
       {kDefazio, kReset, kVarianceRatio, "model = \"resnet110\"\n"},
       {kSmallDeepVarianceRatio, "width = 0.0625\n"}},
      {"defazio-densenet40-elu",
       "[Defazio19] section 5.1: DenseNet-40 with ELU",
       kCifar10Files,
       "2 months",
       kSomeCifar10,
       "~13 min",
       {kDefazio, kReset, kVarianceRatio, kDensenet40, "activation = \"elu\"\n"},
       {kSmallDeepVarianceRatio, "width = 0.0625\n"}},
      {"defazio-locking-on",
       "[Defazio19] Fig. 1: LeNet-5 within epoch two, transforms locked",
       kCifar10Files,
       "6 min",
       kSomeCifar10,
       "2 min",
       {kDefazio, kLenet5, kReset, kLocking},
       {kSmallLocking}},
      {"defazio-locking-off",
       "[Defazio19] Fig. 1: the same with other transforms in the pass over the snapshot",
       kCifar10Files,
       "6 min",
       kSomeCifar10,
       "2 min",
       {kDefazio, kLenet5, kReset, kLocking, kUnlocked},
       {kSmallLocking}},
      {"defazio-batch-norm-reset",
       "[Defazio19] section 2: SVRG with batch norm reset",
       kCifar10Files,
       "2 min",
       kSomeCifar10,
       "1 min",
       {kDefazio, kLenet5, kReset, kRunningStatistics},
       {kSmallRunningStatistics}},
      {"defazio-batch-norm-naive",
       "[Defazio19] section 2: SVRG with batch norm left as it is",
       kCifar10Files,
       "2 min",
       kSomeCifar10,
       "1 min",
       {kDefazio, kLenet5, kNotReset, kRunningStatistics},
       {kSmallRunningStatistics}},
      {"defazio-iterate-averaging",
       "[Defazio19] section 2: SVRG from the mean of the last 10 % of each epoch",
       kCifar10Files,
       "40 min",
       kSomeCifar10,
       "2 min",
       {kDefazio, kLenet5, kReset, kIterateAveraging},
       {kSmallIterateAveraging}},
      {"defazio-lenet5-sgd",
       "[Defazio19] Fig. 5: LeNet-5 by SGD",
       kCifar10Files,
       "20 min",
       kSomeCifar10,
       "1 min",
       {kDefazioSgd, kReset, kLenet5},
       {kSmallDefazioSgd}},
      {"defazio-densenet40-sgd",
       "[Defazio19] Fig. 5b: DenseNet-40 by SGD",
       kCifar10Files,
       "2 weeks",
       kSomeCifar10,
       "~4 min",
       {kDefazioSgd, kReset, kDensenet40},
       {kSmallDeepDefazioSgd}},
      {"defazio-resnet110-sgd",
       "[Defazio19] Fig. 5c: ResNet-110 by SGD",
       kCifar10Files,
       "1 week",
       kSomeCifar10,
       "~5 min",
       {kDefazioSgd, kReset, "model = \"resnet110\"\n"},
       {kSmallDeepDefazioSgd}},

      {"apostolov-mnist-lenet-sgd",
       "[Apostolov21] Fig. 4.4: LeNet on MNIST by SGD",
       kMnistFiles,
       "1 h",
       kMnistFiles,
       "2 min",
       {kApostolov, kLenetOnMnist, "lr = 0.1\n"},
       {kSmallLenet}},
      {"apostolov-mnist-lenet-svrg",
       "[Apostolov21] Fig. 4.4: LeNet on MNIST by SVRG",
       kMnistFiles,
       "1 h",
       kMnistFiles,
       "2 min",
       {kApostolov, kLenetOnMnist, kBySvrg, "lr = 0.01\n"},
       {kSmallLenet}},
      {"apostolov-cifar10-resnet18-norm-sgd",
       "[Apostolov21] Fig. 4.8: ResNet-18 with batch norm by SGD",
       kCifar10Files,
       "2 weeks",
       kSomeCifar10,
       "~4 min",
       {kApostolov, kApostolovCifar, kBySubset, kResnet18OnCifar10, kBatchNorm, k200Epochs,
        "lr = 0.05\n"},
       {kSmallResnet18}},
      {"apostolov-cifar10-resnet18-norm-svrg",
       "[Apostolov21] Fig. 4.8: ResNet-18 with batch norm by SVRG",
       kCifar10Files,
       "3 weeks",
       kSomeCifar10,
       "~4 min",
       {kApostolov, kApostolovCifar, kByDraws, kResnet18OnCifar10, kBatchNorm, kReset, kBySvrg,
        k150Epochs, "lr = 0.01\n"},
       {kSmallResnet18, kSmallDraws}},
      {"apostolov-cifar10-resnet18-sgd",
       "[Apostolov21] Fig. 4.9: ResNet-18 without batch norm by SGD",
       kCifar10Files,
       "2 weeks",
       kSomeCifar10,
       "~3 min",
       {kApostolov, kApostolovCifar, kBySubset, kResnet18OnCifar10, k200Epochs, "lr = 0.01\n"},
       {kSmallResnet18}},
      {"apostolov-cifar10-resnet18-svrg",
       "[Apostolov21] Fig. 4.9: ResNet-18 without batch norm by SVRG",
       kCifar10Files,
       "3 weeks",
       kSomeCifar10,
       "~4 min",
       {kApostolov, kApostolovCifar, kBySubset, kResnet18OnCifar10, kBySvrg, k150Epochs,
        "lr = 0.005\n"},
       {kSmallResnet18}},
      {"apostolov-cifar100-resnet101-norm-sgd",
       "[Apostolov21] Fig. 4.12: ResNet-101 with batch norm by SGD (small: on CIFAR-10)",
       kCifar100Files,
       "months",
       kSomeCifar10,
       "~10 min",
       {kApostolov, kApostolovCifar, kBySubset, kResnet101OnCifar100, kBatchNorm, k200Epochs,
        "lr = 0.05\n"},
       {kSmallResnet101, kSmallSubset}},
      {"apostolov-cifar100-resnet101-norm-svrg",
       "[Apostolov21] Fig. 4.12: ResNet-101 with batch norm by SVRG (small: on CIFAR-10)",
       kCifar100Files,
       "months",
       kSomeCifar10,
       "~12 min",
       {kApostolov, kApostolovCifar, kByDraws, kResnet101OnCifar100, kBatchNorm, kReset, kBySvrg,
        k200Epochs, "lr = 0.005\n"},
       {kSmallResnet101, kSmallDraws}},
      {"apostolov-cifar100-resnet101-sgd",
       "[Apostolov21] Fig. 4.13: ResNet-101 without batch norm by SGD (small: on CIFAR-10)",
       kCifar100Files,
       "months",
       kSomeCifar10,
       "~7 min",
       {kApostolov, kApostolovCifar, kBySubset, kResnet101OnCifar100, k200Epochs, "lr = 0.005\n"},
       {kSmallResnet101, kSmallSubset}},
      {"apostolov-cifar100-resnet101-svrg",
       "[Apostolov21] Figs. 4.13, 4.14: ResNet-101 without batch norm by SVRG (small: on CIFAR-10)",
       kCifar100Files,
       "months",
       kSomeCifar10,
       "~8 min",
       {kApostolov, kApostolovCifar, kBySubset, kResnet101OnCifar100, kBySvrg, k200Epochs,
        "lr = 0.005\n"},
       {kSmallResnet101, kSmallSubset}},
      {"apostolov-cifar100-resnet101-metainit",
       "[Apostolov21] Fig. 4.14: the same from weights scaled by MetaInit",
       kCifar100Files,
       "months",
       kSomeCifar10,
       "~11 min",
       {kApostolov, kApostolovCifar, kBySubset, kResnet101OnCifar100, kBySvrg, k200Epochs,
        "lr = 0.005\ninit = \"metainit\"\nmetainit-steps = 200\n"},
       {kSmallResnet101, kSmallSubset, "metainit-steps = 20\n"}},
  };
}

}  // namespace

const std::vector<Preset>& presets() {
  static const auto table = presets_of(experiments());
  return table;
}

}  // namespace gradist
