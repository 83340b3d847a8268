// A fixture of the include_order test: every include below breaks one rule.
#pragma once
#include "models/mlp.h"
#include <torch/torch.h>
#include <Eigen/Dense>
