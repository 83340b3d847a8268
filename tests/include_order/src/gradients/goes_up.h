// A fixture of the include_order test: every include below breaks one rule.
#pragma once
#include <torch/torch.h>
#include <Eigen/Dense>
#include "models/mlp.h"
