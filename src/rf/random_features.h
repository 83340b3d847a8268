#pragma once

#include "rf/rows.h"

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

namespace gradist::rf {

/// Thrown where a long work was asked to stop.
struct Stopped {};

/// sigma of teacher and student.
enum class Activation { kRelu, kTanh, kSigmoid, kIdentity };

const std::vector<std::string>& activation_names();
Activation activation_by_name(const std::string& name);

/// Which features and teachers to compute. N rows of a training set are rows 0 .. N-1 of the
/// seed's one stream of inputs, a teacher of width h_t is the first h_t units of the seed's one
/// stream of units, and so for students: the largest of each contains all others, and is the only
/// one computed.
struct FeatureOptions {
  uint64_t seed = 0;
  int64_t d_in = 0;                ///< I, dimension of the inputs
  std::vector<int64_t> h_teacher;  ///< widths of teachers
  std::vector<int64_t> h_student;  ///< widths of students
  int64_t examples = 0;            ///< N, the most any training set has
  int64_t test_examples = 0;       ///< M
  Activation activation = Activation::kRelu;
};

/// Student features and teacher outputs of one seed and input dimension. [Faghri20] section 4.2:
///
///   x_i ~ N(0, I),  phi_i = sigma(Theta_s x_i),  t_i = theta^T sigma(Theta_t x_i)
///
/// with rows of Theta_s [h, I] and Theta_t [h_t, I] uniform on the unit sphere and theta ~ N(0, I).
struct FeatureSet {
  /// Rows [phi_i; 1] by width of the student, [N, h + 1] and [M, h + 1].
  std::map<int64_t, Rows<float>> train, test;

  /// t_i by width of the teacher, [N] and [M].
  std::map<int64_t, std::vector<double>> teacher_train, teacher_test;

  /// b ~ N(0, 1), what the paper's text adds to t.
  double teacher_bias = 0;
};

/// Computes them on up to `threads` threads; the result does not depend on how many. `stop` is
/// asked now and then, and where it says true Stopped is thrown. Cost 2 (N + M) I (h_t + h)
/// operations for the widest teacher and student, memory 4 I (h_t + h) bytes beside the result.
FeatureSet make_features(const FeatureOptions& options, int64_t threads,
                         const std::function<bool()>& stop = {});

}  // namespace gradist::rf
