"""HDF5 files, folders of images, and data that stay in their files."""

import subprocess
import sys

import h5py
import numpy as np
import pytest
import torch
from fresh_process import in_a_fresh_process
from PIL import Image

import gradist
from gradist.progress import ProgressBar

RUN = {"model": "logistic", "iterations": 12, "log_every": 4, "refresh_every": 4, "batch_size": 4, "gc_iterations": 2, "threads": 1}
RUN |= {"progress": False, "estimator": ["sg-b", "svrg", "gc"]}


def hashes(**options):
    with gradist.run(**RUN, **options) as trace:
        return trace.trajectory["parameter_hash"].tolist(), trace["gc"].average_variance.tolist(), trace.trajectory["test_loss"].tolist()


def losses_of(**options):
    with gradist.run(**RUN, **options) as trace:
        return [*trace.trajectory["train_loss"], *trace.trajectory["test_loss"]]


def refusal(**options):
    with pytest.raises(ValueError) as error:
        gradist.run(**RUN, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


# ---- HDF5


@pytest.fixture
def table(tmp_path):
    random = np.random.default_rng(0)
    with h5py.File(tmp_path / "table.h5", "w") as file:
        for part, size in (("train", 20), ("test", 8)):
            file[f"{part}/inputs"] = random.normal(3, 2, (size, 5)).astype("f4")
            file[f"{part}/targets"] = (np.arange(size) % 3) * 10 - 10
    return tmp_path / "table.h5"


def test_hdf5_classes_are_those_of_the_training_set(table):
    train, test = gradist.load_data("hdf5", table)
    assert train[1].tolist() == [i % 3 for i in range(20)]
    assert test[1].dtype == torch.int64
    # Every column by itself, by the training set.
    with h5py.File(table) as file:
        x, y = file["train/inputs"][:].astype("f8"), file["test/inputs"][:].astype("f8")
    torch.testing.assert_close(train[0].double(), torch.tensor((x - x.mean(0)) / x.std(0)), atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(test[0].double(), torch.tensor((y - x.mean(0)) / x.std(0)), atol=1e-6, rtol=1e-6)


def test_hdf5_is_found_as_file_and_as_folder_and_runs_as_csv_does(table, tmp_path):
    (tmp_path / "csv").mkdir()
    with h5py.File(table) as file:
        for part in ("train", "test"):
            rows = zip(file[f"{part}/inputs"][:], file[f"{part}/targets"][:], strict=True)
            lines = [",".join([*(repr(float(x)) for x in row), str(label)]) for row, label in rows]
            (tmp_path / "csv" / f"{part}.csv").write_text("\n".join(lines) + "\n")
    from_file = hashes(data="hdf5", data_dir=str(table))
    assert hashes(data="hdf5", data_dir=str(tmp_path)) == from_file
    assert hashes(data="csv", data_dir=str(tmp_path / "csv")) == from_file
    noise = {"label_smoothing": 0.1, "label_corruption": 0.1, "duplicates": "2,0.3"}
    noisy = hashes(data="hdf5", data_dir=str(table), **noise)
    assert noisy == hashes(data="csv", data_dir=str(tmp_path / "csv"), **noise)
    assert noisy[0][-1] != from_file[0][-1]


def test_hdf5_data_sets_have_any_name_in_any_file(tmp_path):
    images = np.arange(6 * 2 * 3).reshape(6, 2, 3)
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["a/X"] = images
        file["a/X_test"] = images[:2]
    with h5py.File(tmp_path / "y.hdf", "w") as file:
        file["label"] = np.array([[0], [1], [1], [0], [1], [0]])
        file["label_test"] = np.array([1.0, 0.0])
    places = {"hdf5_train": ["x.h5:a/X", "y.hdf:label"], "hdf5_test": ["a/X_test", "y.hdf:label_test"]}
    first, _, _ = hashes(data="hdf5", data_dir=str(tmp_path), **places)
    assert len(first) == 4


def test_hdf5_regression(tmp_path):
    random = np.random.default_rng(0)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for part in ("train", "test"):
            file[f"{part}/inputs"] = random.normal(size=(10, 2))
            file[f"{part}/targets"] = random.normal(size=10)
    with gradist.run(**RUN | {"model": "linear"}, data="hdf5", data_dir=str(tmp_path), targets="numbers") as trace:
        assert np.isnan(trace.trajectory["train_accuracy"]).all()


def change(path, name, values):
    with h5py.File(path, "a") as file:
        del file[name]
        if values is not None:
            file[name] = values


INPUTS = "[N], [N, features], [N, height, width] or [N, channels, height, width]"
EXACT = "-16777215..16777215 where targets = classes"
NAN_AT_ROW_2 = np.where(np.arange(100).reshape(20, 5) == 11, np.nan, 1.0)


@pytest.mark.parametrize("stream", [False, True], ids=["memory", "file"])
@pytest.mark.parametrize(
    "name, values, message",
    [
        ("train/targets", None, "{0}:train/targets: no such data set, must exist"),
        ("train/inputs", NAN_AT_ROW_2, "{0}:train/inputs: nan at [2, 1], must be finite numbers that 32-bit floats hold"),
        ("train/inputs", "text", "{0}:train/inputs: holds no numbers, must hold whole or floating-point numbers"),
        ("train/inputs", np.zeros((2, 1, 1, 1, 1)), "{0}:train/inputs: 5 dimensions, must be " + INPUTS),
        ("train/inputs", np.zeros((20, 4)), "{0}:test/inputs: examples of [5], must be [4] as those of {0}:train/inputs"),
        ("train/targets", np.zeros(19), "{0}:train/targets: 19 targets, must be as many as the 20 inputs of {0}:train/inputs"),
        ("train/targets", np.zeros((20, 2)), "{0}:train/targets: [20, 2] numbers, must be one an example"),
        ("train/targets", np.full(20, 0.5), "{0}:train/targets: label 0.5 of example 0 (from 0), must be a whole number where targets = classes"),
        ("train/targets", np.repeat([0, 2**25], [3, 17]), "{0}:train/targets: label 33554432 of example 3 (from 0), must be " + EXACT),
        ("test/targets", np.full(8, -(2**24)), "{0}:test/targets: label -16777216 of example 0 (from 0), must be " + EXACT),
        ("test/targets", np.full(8, 7), "{0}:test/targets: label 7 of example 0 (from 0), must be one of the 3 classes of the training set"),
    ],
    ids=["missing", "nan", "text", "rank", "width", "length", "two labels", "fraction", "huge", "inexact", "unknown class"],
)
def test_hdf5_mistakes_name_file_data_set_and_rule(name, values, message, stream, table):
    change(table, name, values)
    assert refusal(data="hdf5", data_dir=str(table), stream=stream) == message.format(table)


def test_hdf5_mistakes_of_options(table, tmp_path):
    assert refusal(data="hdf5").startswith('data_dir = "", must name the folder')
    assert "hdf5_train" in refusal(data="hdf5", data_dir=str(table), hdf5_train=["one"])
    (tmp_path / "second.h5").write_bytes(b"")
    assert "has 2 HDF5 files, must hold one" in refusal(data="hdf5", data_dir=str(tmp_path))
    assert refusal(data="hdf5", data_dir=str(tmp_path / "second.h5")).startswith(f"{tmp_path}/second.h5: cannot be opened")


# ---- Folders of images


def picture(seed, mode="RGB", size=(6, 5)):
    channels = {"RGB": 3, "L": 1}[mode]
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], channels), dtype=np.uint8)
    return Image.fromarray(pixels.squeeze(), mode)


def write_folder(root, modes=("RGB", "L"), ending="png", test="test"):
    seed = 0
    for part, count in (("train", 5), (test, 2)):
        for name in ("cat", "dog"):
            (root / part / name).mkdir(parents=True)
            for i in range(count):
                seed += 1
                picture(seed, modes[i % len(modes)]).save(root / part / name / f"{i}.{ending}")
    (root / "train" / "cat" / ".hidden").write_text("not looked at")
    return root


def by_pillow(root, part, mode):
    files = [path for name in ("cat", "dog") for path in sorted((root / part / name).iterdir()) if path.name[0] != "."]
    images = [np.asarray(Image.open(path).convert(mode), dtype=np.float64).reshape(5, 6, -1) for path in files]
    return torch.tensor(np.stack(images).transpose(0, 3, 1, 2)) / 255


@pytest.mark.parametrize("modes, mode", [(("RGB", "L"), "RGB"), (("L",), "L")], ids=["colours", "grey"])
@pytest.mark.parametrize("ending", ["png", "jpg"])
def test_images_are_what_pillow_sees(modes, mode, ending, tmp_path):
    write_folder(tmp_path, modes, ending, test="val")
    train, test = gradist.load_data("image-folder", tmp_path, standardize=False)
    # Both decode PNG without loss; their JPEG decoders may round a colour differently.
    atol = 1e-7 if ending == "png" else 4 / 255
    torch.testing.assert_close(train[0].double(), by_pillow(tmp_path, "train", mode), atol=atol, rtol=1e-6)
    torch.testing.assert_close(test[0].double(), by_pillow(tmp_path, "val", mode), atol=atol, rtol=1e-6)
    assert train[1].tolist() == [0] * 5 + [1] * 5
    assert test[1].tolist() == [0, 0, 1, 1]


def test_an_image_folder_runs_as_its_images_in_hdf5_do_with_noise_too(tmp_path):
    root = write_folder(tmp_path / "images", test="test")
    with h5py.File(tmp_path / "images.h5", "w") as file:
        for part, (inputs, targets) in zip(("train", "test"), gradist.load_data("image-folder", root, standardize=False), strict=True):
            file[f"{part}/inputs"] = (inputs * 255).round().numpy().astype("u1")
            file[f"{part}/targets"] = targets.numpy()
    for noise in ({}, {"label_smoothing": 0.1}, {"label_corruption": 0.2}, {"duplicates": "2,0.3"}):
        losses = [losses_of(data="image-folder", data_dir=str(root), **given) for given in (noise, {})]
        # Bytes and floats are standardised by sums of different rounding.
        np.testing.assert_allclose(losses[0], losses_of(data="hdf5", data_dir=str(tmp_path / "images.h5"), **noise), rtol=1e-4)
        assert bool(noise) == (losses[0] != losses[1])


def test_image_folder_mistakes_name_the_file_and_the_rule(tmp_path):
    root = write_folder(tmp_path)
    options = {"data": "image-folder", "data_dir": str(root)}
    odd = root / "test" / "dog" / "odd.png"
    picture(0, size=(6, 4)).save(odd)
    for stream in (False, True):
        message = refusal(**options, stream=stream)
        assert message == f"{odd}: 4 x 6 pixels, must be 5 x 6 as {root}/train/cat/0.png"
    odd.write_bytes(picture(0).tobytes())
    assert refusal(**options) == f"{odd}: neither PNG nor JPEG, must be one of them"
    picture(0).convert("RGBA").save(odd)
    assert refusal(**options) == f"{odd}: transparency, must have none"
    picture(0).save(odd)
    odd.write_bytes(odd.read_bytes()[:60])
    assert refusal(**options).startswith(f"{odd}: damaged (")
    odd.unlink()
    (root / "test" / "emu").mkdir()
    assert refusal(**options) == f"{root}/test/emu: no class of the training set, must be one"
    (root / "test" / "emu").rmdir()
    (root / "train" / "emu").mkdir()
    assert refusal(**options) == f"{root}/train/emu: no image, must hold at least one"
    (root / "train" / "emu").rmdir()
    (root / "test").rename(root / "later")
    assert refusal(**options).startswith(f"{root}: no folder val, must hold train/<class>/")


def test_data_info_knows_the_new_formats(table, tmp_path):
    root = write_folder(tmp_path / "images")

    def info(path):
        words = [sys.executable, "-m", "gradist", "data", "info", str(path)]
        outcome = subprocess.run(words, capture_output=True, text=True)
        assert outcome.stderr == ""
        return outcome.returncode, outcome.stdout

    expected = "HDF5, 4 data sets: test/inputs [8, 5]; test/targets [8]; train/inputs [20, 5]; train/targets [20]\n"
    assert info(table) == (0, f"{table}: {expected}")
    assert info(root) == (0, f"{root}: image folder, 10 training and 4 test images of 3 x 5 x 6, 2 classes\n")
    assert info(root / "train" / "cat" / "1.png")[1].endswith(": PNG, 1 x 5 x 6\n")
    table.write_bytes(table.read_bytes()[:300])
    status, text = info(table)
    assert (status, text.count("\n")) == (1, 1)
    assert text.startswith(f"{table}: cannot be opened (")


# ---- Data that stay in their files


def write_cifar(root, records, seed=0):
    root.mkdir(exist_ok=True)
    random = np.random.default_rng(seed)
    for name, count in (("data_batch_1.bin", records), ("data_batch_2.bin", records // 2), ("test_batch.bin", 20)):
        bytes_ = random.integers(0, 256, (count, 3073), dtype=np.uint8)
        bytes_[:, 0] %= 10
        bytes_.tofile(root / name)
    return root


def write_mnist(root):
    random = np.random.default_rng(0)
    for part, count in (("train", 30), ("t10k", 10)):
        header = np.array([2051, count, 7, 6], dtype=">u4").tobytes()
        (root / f"{part}-images-idx3-ubyte").write_bytes(header + random.integers(0, 256, count * 42, dtype=np.uint8).tobytes())
        header = np.array([2049, count], dtype=">u4").tobytes()
        (root / f"{part}-labels-idx1-ubyte").write_bytes(header + random.integers(0, 10, count, dtype=np.uint8).tobytes())
    return root


def write_csv(root):
    random = np.random.default_rng(0)
    for part, count in (("train", 30), ("test", 10)):
        inputs = random.normal([[2000, 0.01, 5]], [[10, 0.001, 0]], (count, 3))
        np.savetxt(root / f"{part}.csv", np.column_stack([inputs, np.arange(count) % 3]), delimiter=",")
    return root


def write_libsvm(root):
    random = np.random.default_rng(0)
    for name, count in (("x", 30), ("x.t", 10)):
        entries = [" ".join(f"{j + 1}:{random.normal()}" for j in range(50) if random.random() < 0.1) for _ in range(count)]
        (root / name).write_text("\n".join(f"{i % 3} {entries[i]}" for i in range(count)))
    return root


def write_hdf5(root, shape=(5,), dtype="f4"):
    random = np.random.default_rng(0)
    with h5py.File(root / "a.h5", "w") as file:
        for part, count in (("train", 30), ("test", 10)):
            inputs = random.normal(100, 20, (count, *shape)).astype(dtype)
            file.create_dataset(f"{part}/inputs", data=inputs, chunks=(4, *shape), compression="gzip")
            file[f"{part}/targets"] = np.arange(count) % 3
    return root


IMAGES = {"augment": "crop-flip"}
FORMATS = {
    "cifar10": ("cifar10", lambda root: write_cifar(root, 20), IMAGES),
    "mnist": ("mnist", write_mnist, IMAGES),
    "image-folder": ("image-folder", lambda root: write_folder(root), IMAGES),
    "csv": ("csv", write_csv, {}),
    "libsvm": ("libsvm", write_libsvm, {}),
    "hdf5 table": ("hdf5", write_hdf5, {}),
    "hdf5 numbers": ("hdf5", lambda root: write_hdf5(root, (), "i8"), {}),
    "hdf5 grey images": ("hdf5", lambda root: write_hdf5(root, (6, 7), "u1"), IMAGES),
    "hdf5 images": ("hdf5", lambda root: write_hdf5(root, (3, 6, 7), "f8"), IMAGES),
}


@pytest.mark.parametrize("data, write, more", FORMATS.values(), ids=FORMATS)
def test_streamed_data_give_the_same_trace(data, write, more, tmp_path):
    options = {"data": data, "data_dir": str(write(tmp_path))}
    changed = {"label_corruption": 0.1, "duplicates": "2,0.3", "train_examples": 9, "label_smoothing": 0.1} | more
    plain = hashes(**options, stream=True)
    assert plain == hashes(**options, stream=False)
    noisy = hashes(**options, **changed, stream=True)
    assert noisy == hashes(**options, **changed, stream=False)
    assert noisy != plain


def test_streamed_regression_gives_the_same_trace(tmp_path):
    options = {"data": "csv", "data_dir": str(write_csv(tmp_path)), "targets": "numbers", "model": "linear"}
    traces = [gradist.run(**RUN | options, stream=stream) for stream in (True, False)]
    first, second = (trace.trajectory["parameter_hash"].tolist() for trace in traces)
    assert first == second
    for trace in traces:
        trace.close()


@pytest.mark.parametrize(
    "data, write, name",
    [("csv", write_csv, "train.csv"), ("libsvm", write_libsvm, "x"), ("hdf5", write_hdf5, "a.h5"), ("mnist", write_mnist, "train-images-idx3-ubyte")],
)
def test_streamed_data_must_stay_as_they_are(data, write, name, tmp_path, monkeypatch):
    file = write(tmp_path) / name

    class Intruder(ProgressBar):
        def logged(self, iteration, train_loss):
            if iteration == 4:
                file.write_bytes(file.read_bytes() + b"\n")

    monkeypatch.setattr("gradist.trajectory.ProgressBar", Intruder)
    with pytest.raises(ValueError) as error:
        gradist.run(**RUN | {"progress": True}, data=data, data_dir=str(tmp_path), stream=True)
    assert str(error.value) == f"{file}: has changed, must not while it is read"


def test_streamed_data_must_be_plain(tmp_path):
    root = write_cifar(tmp_path, 4)
    packed = subprocess.run(["gzip", str(root / "test_batch.bin")])
    assert packed.returncode == 0
    message = refusal(data="cifar10", data_dir=str(root), stream=True)
    assert message == f"{root}/test_batch.bin.gz: compressed, must be plain where stream = yes"
    assert "stream = yes, must be no for data = digits, which is always in memory" in refusal(stream=True)


MEASURE_A_RUN = """
import gradist
before = peak()
options = dict(data=sys.argv[3], data_dir=sys.argv[1], stream=sys.argv[2] == "yes", model="logistic", iterations=2, log_every=2)
gradist.run(**options, estimator=["sg-b"], measure="subset", threads=1, max_memory="64M", progress=False).close()
print(peak() - before)
"""


def write_large_cifar(root):
    write_cifar(root, 20_000)
    return 1.5 * 20_000 * 3072 * 4  # 369 MB; the files are a quarter of that


def write_large_csv(root):
    (root / "train.csv").write_text("\n".join([",".join("1" * 2000) + f",{i % 2}" for i in range(2)] * 5_000))
    (root / "test.csv").write_text(",".join("1" * 2000) + ",1\n")
    return 10_000 * 2000 * 4


def write_large_libsvm(root):
    entries = " ".join(f"{j}:1" for j in range(1, 41))
    (root / "x").write_text("\n".join(f"{i % 2} {entries}" for i in range(2)) + "\n" + f"0 {entries}\n" * 100_000)
    (root / "x.t").write_text("1 2:1\n")
    return 100_000 * 40 * (4 + 8)


def write_large_hdf5(root):
    with h5py.File(root / "a.h5", "w") as file:
        file.create_dataset("train/inputs", (50_000, 1000), "u1", chunks=(100, 1000), fillvalue=1)
        file["train/targets"] = np.arange(50_000) % 2
        file["test/inputs"] = np.ones((1, 1000))
        file["test/targets"] = np.ones(1)
    return 50_000 * 1000 * 4


LARGE = {"cifar10": write_large_cifar, "csv": write_large_csv, "libsvm": write_large_libsvm, "hdf5": write_large_hdf5}


@pytest.mark.parametrize("data, write", LARGE.items(), ids=LARGE)
def test_streamed_data_need_no_memory_of_their_size(data, write, tmp_path):
    size = write(tmp_path)

    in_memory, streamed = (in_a_fresh_process(MEASURE_A_RUN, tmp_path, stream, data) for stream in ("no", "yes"))
    assert in_memory > size
    # Chunks of 1,024 examples as floats and as they are in the file, the factors of one chunk, and what torch itself takes.
    assert streamed < in_memory - 0.7 * size


MEASURE_WIDE_ROWS = """
import gradist
before = peak()
options = dict(data="libsvm", data_dir=sys.argv[1], model="logistic", iterations=1, log_every=1, batch_size=8, threads=1)
gradist.run(**options, estimator=[sys.argv[2]], progress=False).close()
print(peak() - before)
"""


@pytest.fixture(scope="module")
def wide_rows(tmp_path_factory):
    """1,000 examples of two numbers each among 200,000 features."""
    root = tmp_path_factory.mktemp("wide")
    rows = [f"{i % 2} {1 + 150 * i}:1 {200_000 - i}:0.5" for i in range(1000)]
    (root / "x").write_text("\n".join(rows) + "\n")
    (root / "x.t").write_text(rows[0] + "\n")
    return root


@pytest.mark.parametrize("estimator", ["sg-b", "svrg", "gc", "gc-descent", "gc-importance", "sg-importance"])
def test_wide_sparse_rows_are_nowhere_made_dense(estimator, wide_rows):
    gradients = 1000 * 200_000 * 4  # bytes of all of them, formed; eight dense centers in float64 are 13 MB
    assert in_a_fresh_process(MEASURE_WIDE_ROWS, wide_rows, estimator) < gradients / 4
