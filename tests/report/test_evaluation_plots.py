import matplotlib
import numpy as np
import pytest

from research.metrics import confusion_matrix, roc_auc, roc_curve
from research.report.plots.confusion import confusion_plot
from research.report.plots.roc import roc_plot
from research.report.plots.style import STYLE, png


@pytest.mark.parametrize("size", [2, 10, 30, 100])
def test_any_number_of_classes(size):
    """Drawn without a warning (which is an error), with the data beside."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, size - 1, 400)  # the last class has no examples
    scores = rng.normal(size=(400, size)) + 3 * np.eye(size)[labels]
    names = [f"the class number {k}" for k in range(size)]
    confusion = np.asarray(confusion_matrix(labels, scores.argmax(1), size))
    curves = {
        names[k]: (*roc_curve(scores[:, k], labels == k)[:2], roc_auc(scores[:, k], labels == k))
        for k in range(size)
        if 0 < np.sum(labels == k) < 400
    }
    with matplotlib.rc_context(STYLE):
        figure, rows = confusion_plot(confusion, names, "title")
        assert png(figure).startswith(b"\x89PNG")
        assert [[row[n] for n in names] for row in rows] == confusion.tolist()
        if curves:
            figure, rows = roc_plot(curves, "title")
            assert png(figure).startswith(b"\x89PNG")
            assert {row["class"] for row in rows} == curves.keys()
            shown = figure.legends[0].get_texts()
            assert len(shown) == (len(curves) if len(curves) <= 12 else 6)
            worst = min(curves, key=lambda name: curves[name][2])
            assert any(worst in text.get_text() for text in shown)
