"""The HTML page in a real browser: clicks, keys, searches, both color schemes, and no script error.

Chromium comes from the system (apt-get install chromium, or CHROMIUM names it); it is driven by
playwright.
"""

import os
import random
import re
import shutil
from types import SimpleNamespace

import pytest

from keras_torch_convert.comparison.verdict import Comparison
from keras_torch_convert.plan.ledger import LedgerEntry
from keras_torch_convert.report.report import Report

PROGRAM = os.environ.get("CHROMIUM") or next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
LAYERS = 2000


@pytest.fixture(scope="module")
def browser():
    if PROGRAM is None:
        pytest.skip("no Chromium on this machine: apt-get install chromium, or name it in CHROMIUM")
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with playwright.sync_playwright() as running:
        started = running.chromium.launch(executable_path=PROGRAM, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """A page of 2,000 layers, 20 of them moved, one weight left over, one unset, differences that
    jump at layer 1500.
    """
    source = [f"stage{number // 100}.block{number % 100}.conv" for number in range(LAYERS)]
    order = list(range(LAYERS))
    for place in range(50, LAYERS, 100):
        order.insert(place, order.pop(place + random.Random(place).randint(2, 9)))
    target = {number: f"stack{number // 100}_block{number % 100}_conv" for number in order}
    ledger = [
        *(LedgerEntry("source", f"{source[number]}.weight",
                      (8, 4), "float32", 32, "used", "dense", f"{target[number]}/kernel")
          for number in range(LAYERS)),
        LedgerEntry("source", "aux.weight", (2, 2), "float32", 4, "left over"),
        *(LedgerEntry("target", f"{target[number]}/kernel",
                      (4, 8), "float32", 32, "set", "dense", f"{source[number]}.weight")
          for number in order),
        LedgerEntry("target", "head/bias", (3,), "float32", 3, "unset")
    ]
    differences = {
        target[number]: 1e-7 if place < 1500 else 0.02 for place, number in enumerate(order)
    }
    report = Report("module Net", "net", ledger=tuple(ledger),
                    evidence={f"{name}/kernel": "told by its output" for name in target.values()},
                    layer_differences=differences, warnings=("<b>odd</b> & </script>",),
                    comparison=Comparison("different", 1.0, 0.02))
    return report.to_html(tmp_path_factory.mktemp("page") / "report.html")


@pytest.fixture(params=[(1400, "light"), (420, "dark")], ids=["wide light", "narrow dark"])
def page(request, browser, path):
    """The page opened; whatever a script complains of fails the test."""
    width, scheme = request.param
    opened = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    complaints, requests = [], []
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.on(
        "console", lambda message: complaints.append(message.text)
        if message.type in ("error", "warning") else None)
    opened.on("request", lambda one: requests.append(one.url))
    opened.goto(path.as_uri())
    yield opened
    opened.close()
    assert complaints == []
    assert requests == [path.as_uri()]


def rows(page, side):
    return page.locator(f"#list-{side} .row:visible")


def test_all_layers_and_lines_are_drawn_and_the_page_is_no_wider_than_the_window(page):
    assert rows(page, 0).count() == LAYERS + 1
    assert rows(page, 1).count() == LAYERS + 1
    assert page.locator("#lines path").count() == LAYERS
    assert page.locator("#lines path.moved").count() == 20
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert page.locator("#verdict").inner_text().startswith("OUTPUTS DIFFER")
    assert page.locator("#problems .warning").inner_text() == "<b>odd</b> & </script>"


def test_each_problem_is_one_row_and_leads_to_its_layer(page):
    texts = page.locator("#problems tr").all_inner_texts()
    assert [text.split("\t")[-1] for text in texts
           ] == ["unset: head/bias", "left over: aux.weight", "<b>odd</b> & </script>"]
    page.locator("#problems a").nth(1).click()
    assert page.locator("#detail h3").inner_text() == "aux"


def test_a_warning_about_a_doubt_that_a_row_tells_is_not_told_twice(browser, tmp_path):
    doubt = "'head' gives something else than fc in torch"
    assignment = SimpleNamespace(key="head/bias", doubt=doubt)
    report = Report(
        "module Net", "net", warnings=(doubt, "another"),
        plan=SimpleNamespace(targets={}, assignments=[assignment], reversed=False),
        ledger=(LedgerEntry("source", "fc.bias", (3,), "float32", 3, "used", "raw", "head/bias"),
                LedgerEntry("target", "head/bias", (3,), "float32", 3, "set", "raw", "fc.bias")))
    opened = browser.new_page()
    opened.goto(report.to_html(tmp_path / "report.html").as_uri())
    assert opened.locator("#problems td:last-child").all_inner_texts() == [doubt, "another"]
    opened.close()


def test_colors_are_explained_and_a_sign_says_the_same(page):
    legend = page.locator("#legend li").all_inner_texts()
    assert any(text.startswith("\u25cf") and "proven" in text for text in legend)
    assert any(text.startswith("\u2715") and "left over" in text for text in legend)
    assert rows(page, 1).first.locator(".sign").inner_text() == "\u25cf"


def test_the_ledger_needs_no_scrolling_sideways(page):
    page.evaluate("document.querySelector('#ledger-part .tall').scrollTop = 1e9")
    fits = "(() => { const box = document.querySelector('#ledger-part .tall');"
    assert page.evaluate(f"{fits} return box.scrollWidth <= box.clientWidth; }})()")


def test_search_leaves_the_hits_and_their_partners_and_escape_clears_it(page):
    page.keyboard.press("/")
    page.keyboard.type("stage7.block3")
    assert rows(page, 0).count() == 11
    assert {text.split("_")[0] for text in rows(page, 1).locator(".name").all_inner_texts()
           } == {"stack7"}
    assert page.locator("#shown").inner_text() == "11 of 4,002 layers"
    assert page.locator("#ledger tbody tr").count() == 22
    drawn = page.evaluate(
        "[...document.querySelectorAll('#lines path')].filter((one) => one.style.display !== "
        "'none').length")
    assert drawn == 11

    page.keyboard.press("Escape")
    assert rows(page, 0).count() == LAYERS + 1


def test_a_click_shows_the_weights_and_marks_the_partner(page):
    page.locator("#search").fill("stack3_block7_conv")
    page.locator("#list-1 .row:visible").first.click()

    detail = page.locator("#detail").inner_text()
    assert "stack3_block7_conv/kernel" in detail
    assert "stage3.block7.conv.weight" in detail
    assert "told by its output" in detail
    assert page.locator("#list-0 .row.chosen .name").inner_text() == "stage3.block7.conv"
    assert page.locator("#lines path.chosen").count() == 1

    page.locator("#detail a").click()
    assert page.locator("#detail h3").inner_text() == "stage3.block7.conv"


def test_keys_walk_through_the_layers_and_the_problems(page):
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    assert page.locator("#detail h3").inner_text() == "stack0_block1_conv"
    page.keyboard.press("ArrowLeft")
    assert page.locator("#detail h3").inner_text() == "stage0.block1.conv"

    page.keyboard.press("n")
    assert page.locator("#detail h3").inner_text() == "head"
    page.keyboard.press("n")
    assert page.locator("#detail h3").inner_text() == "aux"
    assert page.locator("#list-0 .row.focus").is_visible()


def test_filters_show_moves_and_problems(page):
    page.get_by_role("button", name="Moved 20").click()
    assert rows(page, 1).count() == 20
    page.get_by_role("button", name="Problems 2").click()
    assert rows(page, 0).count() == 1
    assert rows(page, 1).count() == 1
    page.get_by_role("button", name=re.compile("^All$")).click()
    assert rows(page, 1).count() == LAYERS + 1


def test_the_plot_shows_where_differences_begin_and_leads_to_the_layer(page):
    assert page.locator("#plot circle").count() == LAYERS
    assert page.locator("#plot circle.above").count() == 500
    page.locator("#plot circle.above").first.dispatch_event("click")
    assert page.locator("#detail h3").inner_text().startswith("stack15_")
    assert "2.0e-2" in page.locator("#detail").inner_text()


def test_the_ledger_grows_as_it_is_scrolled(page):
    table = page.locator("#ledger tbody tr")
    before = table.count()
    assert before < 1000
    page.evaluate("document.querySelector('#ledger-part .tall').scrollTop = 1e9")
    page.wait_for_function(f"document.querySelectorAll('#ledger tbody tr').length > {before}")


def test_the_colors_follow_the_scheme_and_can_be_switched(page):
    def lightness():
        return page.evaluate(
            "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)[0]")

    before = lightness()
    page.locator("#theme").click()
    assert (before > 128) != (lightness() > 128)
    page.locator("#theme").click()
    assert lightness() == before


def test_the_layer_where_the_models_part_is_a_problem(browser, tmp_path):
    import keras_torch_convert as ktc
    from keras_torch_convert.cli.demo_command import two_branches_keras, two_branches_torch

    torch_model, keras_model = two_branches_torch(), two_branches_keras()
    plan = ktc.align(torch_model, keras_model)
    keras_model.get_layer("right_bn").epsilon = 0.05
    report = ktc.convert(torch_model, keras_model, plan=plan, if_different="keep")
    opened = browser.new_page()
    opened.goto(report.to_html(tmp_path / "report.html").as_uri())

    assert "build the Keras layer with epsilon=1e-05" in opened.locator("#divergence").inner_text()
    opened.locator("#divergence a").click()
    assert opened.locator("#detail h3").inner_text() == "right_bn"
    opened.keyboard.press("Escape")
    opened.keyboard.press("n")
    assert opened.locator("#detail h3").inner_text() == "right_bn"
    marked = [opened.locator(f"#list-{side} .row.diverging .name") for side in (0, 1)]
    assert [names.all_inner_texts() for names in marked] == [["right.1"], ["right_bn"]]
    assert opened.locator("#plot .parting").count() == 1
    unequal = opened.locator("#list-1 .row:has(.unequal) .name").all_inner_texts()
    assert set(unequal) == {"right_bn", "right_conv2", "head"}
    opened.close()


def test_a_page_of_lists_that_were_only_looked_at(browser, tmp_path):
    from keras_torch_convert import keras_reload_from_torch_model
    from keras_torch_convert.cli.demo_command import two_branches_keras, two_branches_torch

    looked_at = keras_reload_from_torch_model(two_branches_torch(), two_branches_keras(),
                                              do_convert=False, verbose=0)
    path = looked_at.to_html(tmp_path / "lists.html")
    opened = browser.new_page()
    complaints = []
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.goto(path.as_uri())

    opened.keyboard.press("n")

    assert opened.locator("#detail h3").inner_text() == "right_conv1"
    assert "'left.1' does not fit into 'right_conv1'" in opened.locator("#detail").inner_text()
    assert opened.locator("#lines path.missing").count() == 4
    assert complaints == []
    opened.close()
