#include "tools/official_data.h"

#include <c10/util/Exception.h>

#include <algorithm>

namespace gradist::detail {

// Checksums: the MD5 of CIFAR is on its page, those of MNIST and Fashion-MNIST are published too;
// the SHA-256 here are of files with these very MD5. The UCI repository and LIBSVM's page publish
// none.
const std::vector<OfficialData>& official_data() {
  static const std::vector<OfficialData> table = {
      {"mnist",
       "--data mnist",
       "https://ossci-datasets.s3.amazonaws.com/mnist/",
       {{"train-images-idx3-ubyte.gz",
         {"SHA-256", "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609"}},
        {"train-labels-idx1-ubyte.gz",
         {"SHA-256", "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c"}},
        {"t10k-images-idx3-ubyte.gz",
         {"SHA-256", "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6"}},
        {"t10k-labels-idx1-ubyte.gz",
         {"SHA-256", "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6"}}}},
      {"fashion-mnist",
       "--data fashion-mnist",
       "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
       {{"train-images-idx3-ubyte.gz",
         {"SHA-256", "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84"}},
        {"train-labels-idx1-ubyte.gz",
         {"SHA-256", "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845"}},
        {"t10k-images-idx3-ubyte.gz",
         {"SHA-256", "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073"}},
        {"t10k-labels-idx1-ubyte.gz",
         {"SHA-256", "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5"}}}},
      {"cifar10",
       "--data cifar10 --model resnet8",
       "https://www.cs.toronto.edu/~kriz/",
       {{"cifar-10-binary.tar.gz",
         {"SHA-256", "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"},
         {"data_batch_1.bin", "data_batch_2.bin", "data_batch_3.bin", "data_batch_4.bin",
          "data_batch_5.bin", "test_batch.bin"}}}},
      {"cifar100",
       "--data cifar100 --model resnet8",
       "https://www.cs.toronto.edu/~kriz/",
       {{"cifar-100-binary.tar.gz",
         {"MD5", "03b5dce01913d631647c71ecec9e9cb8"},
         {"train.bin", "test.bin"}}}},
      {"year-prediction-msd",
       "--data year-prediction-msd",
       "https://archive.ics.uci.edu/static/public/203/",
       {{"yearpredictionmsd.zip", {}, {"YearPredictionMSD.txt"}}}},
      {"a9a",
       "--data libsvm --model logistic",
       "https://www.csie.ntu.edu.tw/~cjlin/libsvmtools/datasets/binary/",
       {{"a9a"}, {"a9a.t"}}},
  };
  return table;
}

const OfficialData& official_data(const std::string& name) {
  const auto& table = official_data();
  const auto row = std::ranges::find(table, name, &OfficialData::name);
  if (row != table.end()) return *row;
  std::string names;
  for (const OfficialData& data : table) names += (names.empty() ? "" : "|") + data.name;
  TORCH_CHECK_VALUE(false, "data fetch ", name, ", must be one of ", names);
}

}  // namespace gradist::detail
