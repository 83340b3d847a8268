import base64
import html.parser
import shutil
from xml.etree import ElementTree

import h5py
import numpy as np
import pytest
from synthetic_trace import write_trace

import gradist
from gradist import plots, report


class Page(html.parser.HTMLParser):
    """What is in a page: tags that are opened and closed in order, text, images and anything fetched from elsewhere."""

    VOID = ("meta", "img", "br", "link")

    def __init__(self, text):
        super().__init__()
        self.open, self.images, self.sources, self.text = [], [], [], ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        if tag not in self.VOID:
            self.open.append(tag)
        values = dict(attributes)
        self.sources += [values[key] for key in ("src", "href") if key in values]
        if tag == "img":
            self.images.append(values)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def test_the_page_is_whole_and_holds_its_figures(synthetic):
    page = Page(report.html(synthetic))
    assert len(page.images) == len(report._CAPTIONS)
    for image in page.images:
        kind, _, content = image["src"].partition(";base64,")
        assert kind == "data:image/svg+xml"
        assert ElementTree.fromstring(base64.b64decode(content)).tag.endswith("svg")
        assert image["alt"]
    assert all(source.startswith("data:") for source in page.sources), "nothing is fetched from elsewhere"
    for name in synthetic.estimators:
        assert name in page.text
    assert "refresh-every = 500" in page.text


def test_the_same_trace_gives_the_same_page(synthetic):
    assert report.html(synthetic) == report.html(synthetic)


def test_summary(synthetic):
    rows = {row.estimator: row for row in report.summary(synthetic)}
    assert rows["sg-b"].final_ratio == rows["sg-b"].median_ratio == 1
    assert rows["sg-2b"].final_ratio == pytest.approx(0.5) and rows["sg-2b"].median_ratio == pytest.approx(0.5)
    assert rows["svrg"].final_ratio == 0
    assert rows["gc"].final_variance == synthetic["gc"].average_variance[-1]
    assert rows["gc"].gradient_evaluations == synthetic["gc"].gradient_evaluations.sum()


def test_without_a_baseline_there_are_no_ratios(tmp_path):
    with gradist.open(write_trace(tmp_path / "trace.h5", estimators=("gc",))) as trace:
        (row,) = report.summary(trace)
        assert np.isnan(row.final_ratio)
        assert "–" in Page(report.html(trace)).text


def warnings_of(path):
    with gradist.open(path) as trace:
        return report.warnings(trace)


def test_a_few_heavy_examples_are_warned_of(tmp_path):
    (warning,) = warnings_of(write_trace(tmp_path / "heavy.h5", share=0.6))
    assert "1 %" in warning and "201 of 201" in warning and "60 %" in warning
    assert warnings_of(write_trace(tmp_path / "light.h5", share=0.4)) == []
    assert warnings_of(write_trace(tmp_path / "unknown.h5", share=None)) == []


def test_a_run_that_did_not_end_is_warned_of(tmp_path):
    (warning,) = warnings_of(write_trace(tmp_path / "short.h5", iterations=1000, share=0.4))
    assert "1,000 of 2,000" in warning


def test_a_stale_refresh_is_warned_of(synthetic_path, tmp_path):
    path = shutil.copy(synthetic_path, tmp_path / "stale.h5")
    with h5py.File(path, "a") as file:
        file["estimators/gc/average_variance"][10:14] = 1.0
        file["gradients/top_percent_share"][:] = 0.1
    (warning,) = warnings_of(path)
    assert warning.startswith("GC has a higher variance than SG-B at 4 of 201")


def test_values_that_are_not_finite_are_warned_of(synthetic_path, tmp_path):
    path = shutil.copy(synthetic_path, tmp_path / "diverged.h5")
    with h5py.File(path, "a") as file:
        file["estimators/sg-b/average_variance"][150:] = np.nan
        file["gradients/top_percent_share"][:] = 0.1
    assert any("iteration 1,500" in warning for warning in warnings_of(path))


# ---- the subcommand


def test_the_command_writes_the_page(synthetic_path, tmp_path, capsys):
    target = tmp_path / "report.html"
    assert report.main([str(synthetic_path), "-o", str(target)]) == 0
    assert len(Page(target.read_text()).images) > 0
    assert capsys.readouterr() == (f"wrote {target}\n", "")
    assert [each.name for each in tmp_path.iterdir()] == ["report.html"]


@pytest.mark.parametrize("format, magic", [("png", b"\x89PNG"), ("pdf", b"%PDF")])
def test_the_command_writes_figures(synthetic_path, tmp_path, format, magic):
    assert report.main([str(synthetic_path), "--format", format, "-o", str(tmp_path / "figures")]) == 0
    files = sorted(each.name for each in (tmp_path / "figures").iterdir())
    assert files == sorted(f"{name}.{format}" for name in plots.FIGURES)
    assert all(each.read_bytes().startswith(magic) for each in (tmp_path / "figures").iterdir())


def test_a_trace_that_lacks_a_dataset_is_refused_in_one_line(synthetic_path, tmp_path, capsys):
    path = shutil.copy(synthetic_path, tmp_path / "trace.h5")
    with h5py.File(path, "a") as file:
        del file["trajectory/iteration"]
    assert report.main([str(path), "-o", str(tmp_path / "report.html")]) == 2
    assert capsys.readouterr().err == (
        f"gradist report: {path}: damaged or no complete trace ({path} has no trajectory/iteration)\n"
    )


@pytest.mark.parametrize(
    "words, message",
    [
        (["none.h5"], "none.h5: no such file"),
        (["text.h5"], "text.h5: cannot be read"),
        (["trace.h5", "-o", "none/report.html"], "none/report.html"),
        (["trace.h5", "-o", "trace.h5"], "must not be the trace itself"),
        (["trace.h5", "--format", "png", "-o", "text.h5"], "text.h5"),
        (["trace.h5", "--format", "gif"], "gif"),
        (["trace.h5", "--wrong"], "--wrong"),
        ([], "trace"),
    ],
)
def test_mistakes_are_one_line_and_status_2(synthetic_path, tmp_path, monkeypatch, capsys, words, message):
    shutil.copy(synthetic_path, tmp_path / "trace.h5")
    (tmp_path / "text.h5").write_text("text")
    monkeypatch.chdir(tmp_path)
    before = sorted(each.name for each in tmp_path.iterdir())
    try:
        status = report.main(words)
    except SystemExit as exit:
        status = exit.code
    out, err = capsys.readouterr()
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert message in err
    assert sorted(each.name for each in tmp_path.iterdir()) == before
