"""The page in a real browser: tables sort on a click, and each plot's data can be had."""

import csv
import re
import shutil
import subprocess
from urllib.request import urlopen

import pytest
from synthetic_workdir import write_workdir

from research.report import report

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--no-first-run"),
)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return report(write_workdir(tmp_path_factory.mktemp("norms"), steps=20))


def rendered(page, folder, script):
    """The page's HTML after `script` has run in it."""
    file = folder / "clicked.html"
    file.write_text(page.replace("</body>", f"<script>{script}</script></body>"))
    command = [CHROMIUM, *FLAGS, f"--user-data-dir={folder / 'profile'}", "--dump-dom"]
    done = subprocess.run([*command, file.as_uri()], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium or Chrome to render the page with")
@pytest.mark.parametrize("clicks", [1, 2])
def test_a_table_sorts_by_the_column_that_is_clicked(made, tmp_path, clicks):
    page = (made / "index.html").read_text()
    click = "document.querySelectorAll('table th')[2].click();" * clicks
    html = rendered(page, tmp_path, click)
    head, body = re.search(r"<thead>(.*?)</thead>\s*<tbody>(.*?)</tbody>", html, re.DOTALL).groups()
    assert "test accuracy (%)" in re.findall(r"<th.*?>(.*?)</th>", head)[2]
    assert f'aria-sort="{"ascending" if clicks == 1 else "descending"}"' in head
    shown = [re.findall(r"<td>(.*?)</td>", row)[2] for row in body.split("</tr>")[:-1]]
    values = [float(cell.split()[0]) for cell in shown]
    assert len(values) == 6 and values == sorted(values, reverse=clicks == 2)
    before = re.findall(r"<tbody>(.*?)</tbody>", page, re.DOTALL)[0]
    assert before != body


def test_the_data_behind_each_plot_is_in_the_page(made):
    page = (made / "index.html").read_text()
    links = dict(re.findall(r'<a download="([\w.]+)" href="(data:[^"]+)"', page))
    assert set(links) == {path.name for path in made.glob("*.csv")} and len(links) == 3
    for name, link in links.items():
        with urlopen(link) as answer:
            text = answer.read().decode()
        assert text == (made / name).read_text()
        assert len(list(csv.DictReader(text.splitlines()))) > 5
