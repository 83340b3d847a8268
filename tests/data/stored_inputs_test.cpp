#include "data/stored_inputs.h"

#include "data/compressed_rows.h"
#include "data/dataset.h"
#include "data/stored_images.h"
#include "data/transforms.h"
#include "support/problems.h"
#include "support/tensor_near.h"

#include <ATen/ATen.h>

namespace gradist {
namespace {

using test::same_bits;

/// Nine images of random bytes, standardised.
StoredInputs some_images() {
  const at::Tensor bytes =
      at::randint(0, 256, {9, 2, 3, 4}, test::generator_of(1), at::kLong).to(at::kByte);
  StoredInputs stored{.source = images_in_memory(bytes)};
  stored.scale = stored.source->scale(/*by_feature=*/false);
  return stored;
}

TEST(StoredInputs, ReadWhatIsAskedFor) {
  StoredInputs stored = some_images();
  const at::Tensor all = stored.read_all();
  EXPECT_EQ(stored.size(), 9);
  EXPECT_EQ(all.sizes(), (std::vector<int64_t>{9, 2, 3, 4}));
  const at::Tensor some = at::tensor({8, 0, 0}, at::kLong);
  EXPECT_TRUE(same_bits(stored.read(some), all.index_select(0, some)));
  stored.rows = at::tensor({3, 3, 1}, at::kLong);
  EXPECT_EQ(stored.size(), 3);
  EXPECT_TRUE(same_bits(stored.read_all(), all.index_select(0, stored.rows)));
  EXPECT_TRUE(same_bits(stored.read(at::tensor({2}, at::kLong)), all.narrow(0, 1, 1)));
}

TEST(StoredInputs, AreTakenAndDuplicatedAsThoseInMemory) {
  Dataset stored{.targets = at::arange(9), .classes = 9, .stored = some_images()};
  Dataset memory{.inputs = stored.stored->read_all(), .targets = at::arange(9), .classes = 9};
  for (Dataset* data : {&stored, &memory}) {
    auto generator = test::generator_of(3);
    take_examples(*data, 8, generator);
    duplicate_points(*data, 2, 0.5, generator);
    duplicate_points(*data, 1, 0.25, generator);
  }
  EXPECT_TRUE(same_bits(stored.targets, memory.targets));
  EXPECT_TRUE(same_bits(stored.input_range(0, 8), memory.inputs));
  EXPECT_EQ(stored.example_shape(), memory.example_shape());
  const Dataset moved = stored.to(at::kCPU, at::kDouble);
  EXPECT_TRUE(same_bits(moved.input_range(4, 3), memory.inputs.narrow(0, 4, 3).to(at::kDouble)));
}

/// Row i has the values i and i + 1 in the columns 0 and i.
class Diagonal final : public InputSource {
 public:
  Diagonal() : InputSource({5, 6}) {}
  bool sparse() const override { return true; }
  at::Tensor read(const at::Tensor& rows, const InputScale& /*scale*/) const override {
    const int64_t count = rows.numel();
    return compressed_rows(at::arange(0, 2 * count + 1, 2),
                           at::stack({at::zeros_like(rows), rows + 1}, 1).flatten(),
                           at::stack({rows, rows + 1}, 1).flatten().to(at::kFloat), count, 6);
  }
};

TEST(StoredInputs, StaySparse) {
  Dataset data{.targets = at::zeros({5}), .stored = StoredInputs{std::make_shared<Diagonal>()}};
  EXPECT_TRUE(data.sparse());
  data.stored->rows = at::tensor({4, 2}, at::kLong);
  const at::Tensor read = data.to(at::kCPU, at::kDouble).input_rows(at::tensor({1}, at::kLong));
  EXPECT_EQ(read.layout(), at::kSparseCsr);
  EXPECT_EQ(read.scalar_type(), at::kDouble);
  EXPECT_TRUE(at::equal(read.to_dense(), at::tensor({2., 0., 0., 3., 0., 0.}).view({1, 6})));
}

}  // namespace
}  // namespace gradist
