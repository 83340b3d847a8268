import numpy as np
import pytest
from matplotlib.figure import Figure

import gradist
from gradist import plots
from synthetic_trace import write_trace


def test_rolling_mean_and_deviation_by_hand():
    mean, deviation = plots.rolling(np.array([1.0, 2.0, 6.0, np.nan, 4.0]), 3)
    np.testing.assert_allclose(mean, [1.5, 3.0, 4.0, 5.0, 4.0])
    np.testing.assert_allclose(deviation, [0.5, np.std([1, 2, 6]), 2.0, 1.0, 0.0])


@pytest.mark.parametrize("window", [1, 2, 5, 8])
def test_a_constant_stays_constant(window):
    mean, deviation = plots.rolling(np.full(7, 3.0), window)
    np.testing.assert_array_equal(mean, 3.0)
    np.testing.assert_array_equal(deviation, 0.0)


def test_a_refresh_is_a_jump_and_what_is_missing_stays_missing():
    values = np.array([1.0, 1.0, 1.0, np.nan, 9.0, 9.0])
    mean, deviation = plots.rolling_between(values, 3, np.array([0, 3]))
    np.testing.assert_array_equal(mean, values)
    np.testing.assert_array_equal(deviation[:3], 0.0)


def test_colors_differ_and_stay_with_the_estimator():
    names = ["gc", "mine", "sg-b", "svrg", "yours", "sg-2b"]
    colors = [plots.color_of(name, names) for name in names]
    assert len(set(colors)) == len(names)
    assert plots.color_of("svrg", names) == plots.color_of("svrg")


@pytest.mark.parametrize("name", plots.FIGURES)
@pytest.mark.parametrize("which", ["synthetic_path", "run_path"])
def test_every_figure_draws(name, which, request, tmp_path):
    with gradist.open(request.getfixturevalue(which)) as trace:
        figure = trace.plot(name, width=5)
    assert isinstance(figure, Figure) and figure.get_figwidth() == 5
    for suffix in ("png", "pdf", "svg"):
        figure.savefig(tmp_path / f"figure.{suffix}")
        assert (tmp_path / f"figure.{suffix}").stat().st_size > 2000


def test_curves_show_the_trace(synthetic):
    figure = synthetic.plot("average-variance", window=1)
    axes = figure.axes[0]
    assert axes.get_yscale() == "log"
    drawn = {line.get_color(): line for line in axes.lines}
    for name in synthetic.estimators:
        line = drawn[plots.COLORS[name]]
        np.testing.assert_array_equal(line.get_xdata(), synthetic.iterations)
        values = synthetic[name].average_variance
        np.testing.assert_array_equal(line.get_ydata(), np.where(values > 0, values, np.nan))


def test_ratios_are_a_curve_for_each_way_from_the_snapshot(run_path):
    with gradist.open(run_path) as trace:
        axes = trace.plot("variance-ratio").axes[0]
        curves = {line.get_label(): line for line in axes.lines if line.get_label().endswith("%")}
        assert set(curves) == {"0 %", "50 %"}, "log points 0, 10, 20, 30, 40; refreshes 0, 20, 40"
        np.testing.assert_array_equal(curves["0 %"].get_ydata(), 0)
        np.testing.assert_array_equal(curves["50 %"].get_ydata(), trace["svrg"].variance_ratio[[1, 3]])
        assert any(np.allclose(line.get_ydata(), 1 / 3) for line in axes.lines)
        distance = trace.plot("drift").axes[0].lines
        np.testing.assert_array_equal(distance[1].get_ydata(), trace.drift.distance[19:])


def test_drift_shows_the_curvature_of_all_examples_beside_that_of_a_minibatch(run_path):
    with gradist.open(run_path) as trace:
        axes = trace.plot("drift").axes[1]
        curves = [line for line in axes.lines if line.get_linestyle() == "-"]
        points = [line for line in axes.lines if line.get_marker() == "o"]
        np.testing.assert_array_equal(curves[0].get_ydata(), trace.drift.curvature[:19])
        for interval, line in enumerate(points[:2]):  # log points 0, 10, 20, 30; refreshes 0, 20
            there = slice(2 * interval, 2 * interval + 2)
            np.testing.assert_array_equal(line.get_xdata(), [0, 10])
            np.testing.assert_array_equal(line.get_ydata(), trace.trajectory.snapshot_curvature[there])
            assert line.get_color() is not None and np.array_equal(line.get_color(), curves[interval].get_color())
        assert [text.get_text() for text in axes.get_legend().get_texts()] == ["a minibatch", "all examples"]


def test_metainit_shows_the_quotient_of_each_step(run_path, tmp_path):
    with gradist.open(run_path) as trace:
        (line,) = trace.plot("metainit").axes[0].lines
        np.testing.assert_array_equal(line.get_xdata(), [0, 1, 2, 3])
        np.testing.assert_array_equal(line.get_ydata(), trace.metainit.quotient)
    with gradist.run(out=tmp_path / "plain.h5", iterations=2, hidden=[4], estimator="sg-b", progress=False) as plain:
        assert "metainit" not in plots.available(plain)


def test_estimators_and_figures_that_a_trace_lacks_are_absent(tmp_path):
    path = write_trace(tmp_path / "trace.h5", estimators=("sg-b", "svrg"))
    with gradist.open(path) as trace:
        assert "cluster-sizes" not in plots.available(trace)
        with pytest.raises(ValueError, match="cluster-sizes"):
            trace.plot("cluster-sizes")
        labels = [text.get_text() for text in trace.plot().legends[0].get_texts()]
    assert labels == ["SG-B", "SVRG"]


def test_one_log_point_is_enough(tmp_path):
    path = write_trace(tmp_path / "trace.h5", iterations=5)
    with gradist.open(path) as trace:
        for name in plots.available(trace):
            trace.plot(name).savefig(tmp_path / "figure.png")


def test_an_unknown_figure(synthetic):
    with pytest.raises(ValueError, match="'pie', must be one of variances"):
        synthetic.plot("pie")


def test_notebooks_get_a_png(synthetic):
    assert synthetic.plot()._repr_png_().startswith(b"\x89PNG")


def test_shares_of_the_variance_within_clusters(synthetic):
    refresh = synthetic.refreshes["gc"]
    by_cluster, by_parameter = synthetic.plot("cluster-variance").axes
    order = np.argsort(refresh.sizes[-1], kind="stable")
    heights = [bar.get_height() for bar in by_cluster.patches]
    np.testing.assert_allclose(heights, 100 * (refresh.scatter[-1] / refresh.scatter[-1].sum())[order])
    np.testing.assert_allclose(by_cluster.lines[0].get_ydata(), 100 * refresh.sizes[-1][order] / synthetic.examples)
    # Bands lie on each other in the order of the layers, up to 100 %.
    tops = [band.get_paths()[0].vertices[:, 1].max() for band in by_parameter.collections]
    np.testing.assert_allclose(tops, np.cumsum([5.0, 0.1, 3.0, 0.2]) / 8.3 * 100)
    assert [band.get_label() for band in by_parameter.collections] == list(synthetic.layers)


def test_two_estimators_with_clusters_are_two_rows(tmp_path):
    path = write_trace(tmp_path / "trace.h5", estimators=("sg-b", "gc", "gc-descent"))
    with gradist.open(path) as trace:
        sizes, variance = trace.plot("cluster-sizes"), trace.plot("cluster-variance")
        assert not np.array_equal(trace.refreshes["gc"].sizes, trace.refreshes["gc-descent"].sizes)
        for figure in (sizes, variance):
            assert [part.get_suptitle() for part in figure.subfigs] == ["GC", "GC-DESCENT"]
            assert len(figure.axes) == 4
            figure.savefig(tmp_path / "figure.png")
        for row, name in enumerate(("gc", "gc-descent")):
            refresh = trace.refreshes[name]
            ranks, spread = sizes.subfigs[row].axes
            by_cluster, _ = variance.subfigs[row].axes
            ranked = -np.sort(-refresh.sizes[-1].astype(float))
            np.testing.assert_array_equal(ranks.lines[-1].get_ydata(), np.where(ranked > 0, ranked, np.nan))
            np.testing.assert_array_equal(spread.lines[0].get_ydata(), np.median(refresh.sizes, axis=1))
            assert spread.lines[0].get_color() == plots.COLORS[name]
            order = np.argsort(refresh.sizes[-1], kind="stable")
            heights = [bar.get_height() for bar in by_cluster.patches]
            np.testing.assert_allclose(heights, 100 * (refresh.scatter[-1] / refresh.scatter[-1].sum())[order])
