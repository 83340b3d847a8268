#include "options.h"

#include "support/value_error.h"

#include <gtest/gtest.h>

namespace gradist {
namespace {

using test::refusal;
using ::testing::HasSubstr;

/// One option of every type.
struct WalkOptions {
  int64_t steps = 10;
  double length = 0.5;
  bool back = false;
  uint64_t seed = 0;
  ByteSize memory;
  std::string pace = "slow";
  std::string note;
  std::vector<std::string> places = {"sea"};
  std::vector<int64_t> stops;

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor&& visit) {
    visit({"steps", "steps to walk", "Walk"}, self.steps, at_least<int64_t>(1));
    visit({"step-length", "length of a step in m", "Walk"}, self.length, greater_than(0.0));
    visit({"back", "walk back too", "Walk"}, self.back, anything<bool>());
    visit({"seed", "of the weather", "Run"}, self.seed, anything<uint64_t>());
    visit({"max-memory", "bytes to remember it", "Run"}, self.memory, anything<ByteSize>());
    visit({"pace", "how fast", "Run"}, self.pace, one_of({"slow", "fast"}));
    visit({"note", "about it", "Run"}, self.note, anything<std::string>());
    visit({"places", "where", "Run"}, self.places, some_of({"sea", "hill", "town"}));
    visit({"stops", "steps to rest at", "Run"}, self.stops, each_at_least(1));
  }
};

class OptionsTest : public ::testing::Test {
 protected:
  void set(const std::string& name, const std::string& text) {
    find_option(list, name, "--").set(text, "--");
  }
  std::string refused(const std::string& name, const std::string& text) {
    return refusal([&] { set(name, text); });
  }

  WalkOptions walk;
  OptionList list = list_options(walk);
};

TEST_F(OptionsTest, ListsEveryFieldOnceInOrder) {
  std::vector<std::string> names;
  for (const auto& option : list) {
    names.push_back(option.name());
  }
  EXPECT_EQ(names, (std::vector<std::string>{"steps", "step-length", "back", "seed", "max-memory",
                                             "pace", "note", "places", "stops"}));
  EXPECT_EQ(list.front().doc(), "steps to walk");
  EXPECT_EQ(list.front().group(), "Walk");
  EXPECT_EQ(list.front().rule(), "must be >= 1");
}

TEST_F(OptionsTest, ReadsTextOfEveryType) {
  set("steps", "12");
  set("step-length", "2.5e-1");
  set("back", "yes");
  set("seed", "9223372036854775807");
  set("max-memory", "2G");
  set("pace", "fast");
  set("note", "by the sea, twice");
  set("places", "hill,town");
  set("stops", "3,4");
  EXPECT_EQ(walk.steps, 12);
  EXPECT_EQ(walk.length, 0.25);
  EXPECT_TRUE(walk.back);
  EXPECT_EQ(walk.seed, 9223372036854775807U);
  EXPECT_EQ(walk.memory.bytes, int64_t{2} << 30);
  EXPECT_EQ(walk.pace, "fast");
  EXPECT_EQ(walk.note, "by the sea, twice");
  EXPECT_EQ(walk.places, (std::vector<std::string>{"hill", "town"}));
  EXPECT_EQ(walk.stops, (std::vector<int64_t>{3, 4}));
  set("stops", "");
  EXPECT_TRUE(walk.stops.empty());
}

TEST_F(OptionsTest, RefusesInOneLineThatNamesOptionValueAndRule) {
  EXPECT_EQ(refused("steps", "0"), "--steps = 0, must be >= 1");
  EXPECT_EQ(refused("steps", "1.5"), "--steps = 1.5, must be a whole number");
  EXPECT_EQ(refused("steps", ""), "--steps = \"\", must be a whole number");
  EXPECT_EQ(refused("steps", "99999999999999999999"),
            "--steps = 99999999999999999999, must be a whole number");
  EXPECT_EQ(refused("step-length", "-1"), "--step-length = -1, must be > 0");
  EXPECT_EQ(refused("step-length", "nan"), "--step-length = nan, must be a finite number");
  EXPECT_EQ(refused("step-length", "inf"), "--step-length = inf, must be a finite number");
  EXPECT_EQ(refused("step-length", "1e999"), "--step-length = 1e999, must be a finite number");
  EXPECT_EQ(refused("back", "maybe"), "--back = maybe, must be yes or no");
  EXPECT_EQ(refused("seed", "-1"), "--seed = -1, must be a whole number in [0, 2^63 - 1]");
  EXPECT_EQ(refused("max-memory", "9999999999G"),
            "--max-memory = 9999999999G, must be a number of bytes such as 536870912, 512M or 2G");
  EXPECT_EQ(refused("max-memory", "-5M"),
            "--max-memory = -5M, must be a number of bytes such as 536870912, 512M or 2G");
  EXPECT_EQ(refused("pace", "medium"), "--pace = medium, must be one of slow|fast");
  EXPECT_EQ(refused("places", "sea,sea"),
            "--places = sea,sea, must be one or more of sea|hill|town, none twice");
  EXPECT_EQ(refused("places", ""),
            "--places = \"\", must be one or more of sea|hill|town, none twice");
  EXPECT_EQ(refused("places", "sea,"), "--places = sea,, must be names separated by commas");
  EXPECT_EQ(refused("stops", "1,0"), "--stops = 1,0, every number must be >= 1");
  EXPECT_EQ(refused("stops", "1,x"), "--stops = 1,x, must be whole numbers separated by commas");
  EXPECT_THAT(refused("pace", "two\nlines"), test::is_one_line());
}

TEST_F(OptionsTest, KeepsTheOldValueAfterARefusal) {
  const std::string before = to_toml(list);
  for (const auto& [name, text] :
       {std::pair{"steps", "0"}, {"places", "sea,moon"}, {"stops", "5,0"}, {"max-memory", "xM"}}) {
    EXPECT_NE(refused(name, text), "");
  }
  EXPECT_EQ(to_toml(list), before);
}

TEST_F(OptionsTest, SuggestsTheNearestName) {
  EXPECT_EQ(refused("step", "1"), "--step, must be a known option; did you mean steps?");
  EXPECT_EQ(refused("weather", "1"), "--weather, must be a known option");
}

TEST_F(OptionsTest, ChecksValuesThatNoTextSet) {
  walk.length = std::numeric_limits<double>::quiet_NaN();
  EXPECT_EQ(refusal([&] { find_option(list, "step-length", "").check(""); }),
            "step-length = nan, must be a finite number");
  walk.steps = -3;
  EXPECT_EQ(refusal([&] { find_option(list, "steps", "").check(""); }), "steps = -3, must be >= 1");
}

TEST_F(OptionsTest, TomlReadsBackAsItWasWritten) {
  set("step-length", "0.1");
  set("seed", "9223372036854775807");
  set("max-memory", "1536K");
  set("note", "a \"quoted\" \\ word\tand \x01");
  set("places", "town,sea");
  set("stops", "7");
  WalkOptions copy;
  OptionList copy_list = list_options(copy);
  const auto names = set_from_toml(copy_list, to_toml(list, /*with_docs=*/true), "copy.toml");
  EXPECT_EQ(names.size(), list.size());
  EXPECT_EQ(to_toml(copy_list), to_toml(list));
  EXPECT_EQ(copy.note, walk.note);
  EXPECT_EQ(copy.length, 0.1);
  EXPECT_EQ(copy.memory, walk.memory);
}

TEST_F(OptionsTest, TomlTakesWholeNumbersForRealOnes) {
  set_from_toml(list, "step-length = 2\nmax-memory = 1024\nstops = []", "walk.toml");
  EXPECT_EQ(walk.length, 2);
  EXPECT_EQ(walk.memory.bytes, 1024);
}

TEST_F(OptionsTest, TomlErrorsNameFileAndLine) {
  const auto refused_document = [&](const char* document) {
    return refusal([&] { set_from_toml(list, document, "walk.toml"); });
  };
  EXPECT_EQ(refused_document("steps = 3\nstep = 4"),
            "walk.toml:2: step, must be a known option; did you mean steps?");
  EXPECT_EQ(refused_document("steps = 0"), "walk.toml:1: steps = 0, must be >= 1");
  EXPECT_EQ(refused_document("steps = 1.5"), "walk.toml:1: steps = 1.5, must be a whole number");
  EXPECT_EQ(refused_document("steps = \"3\""), "walk.toml:1: steps = 3, must be a whole number");
  EXPECT_EQ(refused_document("steps = true"), "walk.toml:1: steps = true, must be a whole number");
  EXPECT_EQ(refused_document("back = 1"), "walk.toml:1: back = 1, must be true or false");
  EXPECT_EQ(refused_document("step-length = nan"),
            "walk.toml:1: step-length = nan, must be a finite number");
  EXPECT_EQ(refused_document("pace = [\"slow\"]"),
            "walk.toml:1: pace = slow, must be text in quotes");
  EXPECT_EQ(refused_document("places = [\"sea\", 1]"),
            "walk.toml:1: places = sea,1, must be a list of names, such as [\"a\", \"b\"]");
  EXPECT_THAT(refused_document("steps = \n"),
              AllOf(HasSubstr("walk.toml:1: must be TOML; "), test::is_one_line()));
  EXPECT_THAT(refused_document("steps = 1\nsteps = 2"),
              AllOf(HasSubstr("walk.toml:2: must be TOML; "), test::is_one_line()));
  EXPECT_THAT(refused_document("[steps]\nx = 1"),
              AllOf(HasSubstr("walk.toml:1: steps = "), test::is_one_line()));
}

}  // namespace
}  // namespace gradist
