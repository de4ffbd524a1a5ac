"""The page in a real browser: drop, draw, attack, change eps, compare two models, cancel, keys."""

from __future__ import annotations

import base64
import shutil
import threading
from pathlib import Path

import pytest

from sparring.serving import app, server
from sparring.serving.session import Session
from tests.serving.made import Brightness, picture, served

pytestmark = pytest.mark.slow
DROP = """([content, name]) => {
  const bytes = Uint8Array.from(atob(content), (c) => c.charCodeAt(0));
  const data = new DataTransfer();
  data.items.add(new File([bytes], name, { type: "image/png" }));
  const zone = document.getElementById("drop");
  const more = { dataTransfer: data, bubbles: true, cancelable: true };
  for (const kind of ["dragover", "drop"]) zone.dispatchEvent(new DragEvent(kind, more));
}"""


@pytest.fixture(scope="module")
def models():
    """Two models of different inputs; the second is harder to move."""
    return [served("steep"), served("gentle", (3, 32, 32), Brightness(4.0), ["dark", "light"])]


@pytest.fixture(scope="module")
def address(models):
    import uvicorn

    listening = server.listen(0)
    config = uvicorn.Config(app.make_app(Session(models)), log_level="warning")
    running = uvicorn.Server(config)
    thread = threading.Thread(target=running.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    yield server.address_of(listening)
    running.should_exit = True
    thread.join(20)


@pytest.fixture(scope="module")
def browser():
    from playwright import sync_api

    chromium = shutil.which("chromium")
    assert chromium, "the tests of the page need the distribution's Chromium"
    with sync_api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(params=[1400, 420])
def page(browser, address, request):
    """The page at two widths; any error of the script, and any refused resource, fails the test."""
    context = browser.new_context(viewport={"width": request.param, "height": 900})
    page, wrong = context.new_page(), []
    page.set_default_timeout(20_000)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("requestfailed", lambda failed: wrong.append(failed.url))
    page.on("console", lambda m: wrong.append(m.text) if "Security Policy" in m.text else None)
    page.goto(address)
    page.wait_for_function("document.querySelectorAll('#threat option').length == 4")
    yield page
    assert page.evaluate("document.documentElement.scrollWidth") <= request.param
    context.close()
    assert wrong == []


def drop(page, content=None, name="grey.png"):
    content = base64.b64encode(content or picture()).decode()
    page.evaluate(DROP, [content, name])


def attack(page, eps):
    page.fill("#eps", eps)
    page.click("#start")
    page.get_by_text("Done.", exact=True).wait_for()


def verdicts(page):
    return [v.split(":")[0] for v in page.locator(".verdict").all_inner_texts()]


def test_drop_attack_change_eps_and_compare(page, tmp_path):
    drop(page)
    page.locator("#chosen img").nth(1).wait_for()
    assert "resized from 8 × 8 to 32 × 32" in page.locator("#chosen").inner_text()
    attack(page, "0.05")
    assert verdicts(page) == ["✓ Still right", "✓ Still right"]
    attack(page, "0.2")
    assert verdicts(page) == ["✗ Fooled", "✗ Fooled"]
    assert page.locator(".answers .pictures img").count() == 6
    assert page.locator("#chart polyline").count() == 2
    assert "The same picture on gentle: ✗ light" in page.locator(".answers").inner_text()
    page.locator("#radius").focus()
    for _ in range(7):
        page.keyboard.press("ArrowLeft")
    assert page.locator("#radius-text").inner_text() == "eps = 0.025"
    assert verdicts(page) == ["✓ Still right", "✓ Still right"]
    page.get_by_text("The numbers as a table").click()
    assert page.locator("#numbers tbody tr").count() == 9
    with page.expect_download() as started:
        page.locator(".answers a").first.click()
    assert started.value.suggested_filename == "steep-eps-0.025.png"
    assert Path(started.value.path()).read_bytes()[:4] == b"\x89PNG"


def test_draw_and_attack(page):
    box = page.locator("#canvas").bounding_box()
    page.mouse.move(box["x"] + 30, box["y"] + 90)
    page.mouse.down()
    page.mouse.move(box["x"] + 150, box["y"] + 90, steps=5)
    page.mouse.up()
    page.click("#use")
    page.locator("#chosen img").first.wait_for()
    assert "drawing, 224 × 224" in page.locator("#chosen").inner_text()
    attack(page, "0.9")
    assert verdicts(page)[0] == "✗ Fooled"


def test_a_file_by_the_button_and_a_sample(page, tmp_path):
    file = tmp_path / "bright.png"
    file.write_bytes(picture(200, (40, 30), mode="RGB"))
    with page.expect_file_chooser() as chooser:
        page.click("#drop")
    chooser.value.set_files(file)
    page.get_by_text("bright.png, 40 × 30").wait_for()
    page.fill("#sample-row", "1")
    page.click("#sample")
    page.get_by_text("it shows: bright").wait_for()
    assert page.locator("#label").input_value() == "bright"


def test_what_is_refused_is_shown(page):
    drop(page, b"no picture", "a.png")
    page.get_by_text("a.png is no picture that can be read").wait_for()
    drop(page)
    page.locator("#chosen img").first.wait_for()
    for eps, text in (
        ("8", "the width of the box"),
        ("nan", "a radius > 0"),
        ("x", "a radius > 0"),
    ):
        page.fill("#eps", eps)
        page.click("#start")
        page.locator("#alert").get_by_text(text).wait_for()
        top = page.locator("#alert").bounding_box()["y"]
        assert 0 <= top < 900  # in view, also where the button is far below it
    attack(page, "0.2")
    assert page.locator("#alert").inner_text() == ""


def test_cancel_and_a_second_browser(page, models, browser, address):
    drop(page)
    page.locator("#chosen img").first.wait_for()
    model = models[0].model
    other = browser.new_context().new_page()
    other.goto(address)
    model.entered.clear()
    model.gate.clear()
    page.click("#start")
    assert model.entered.wait(10)
    drop(other)
    other.locator("#alert").get_by_text("busy: the models are attacking").wait_for()
    page.click("#cancel")
    model.gate.set()
    page.get_by_text("Cancelled").wait_for(timeout=3000)
    drop(other)
    other.locator("#chosen img").first.wait_for()
    model.entered.clear()
    model.gate.clear()
    page.click("#start")
    assert model.entered.wait(10)
    other.fill("#eps", "0.1")
    other.click("#start")
    other.get_by_role("button", name="Cancel the other attack").click()
    model.gate.set()
    page.get_by_text("Cancelled").wait_for(timeout=3000)
    other.context.close()


def test_all_of_it_by_keys(page):
    """From the head of the page by Tab, Enter, Space and arrows alone."""
    for _ in range(20):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.id") == "canvas":
            break
    page.keyboard.press("Space")
    for _ in range(8):
        page.keyboard.press("ArrowRight")
    assert "Pen down at" in page.locator("#pen").inner_text()
    page.keyboard.press("Space")
    for name in ("dark-ink", "use"):
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.id") == name
    page.keyboard.press("Enter")
    page.locator("#chosen img").first.wait_for()
    for name in ("clear", "threat", "eps"):
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.id") == name
    page.keyboard.press("Control+a")
    page.keyboard.type("0.3")
    page.keyboard.press("Enter")
    page.get_by_text("Done.", exact=True).wait_for()
    assert page.evaluate("document.activeElement.id") == "start"


def test_every_control_has_a_name(page):
    drop(page)
    page.locator("#chosen img").first.wait_for()
    attack(page, "0.2")
    unnamed = page.evaluate(
        """() => [...document.querySelectorAll("button, input, select, img, svg[role], [tabindex]")]
        .filter((e) => !(e.textContent.trim() || e.alt || e.ariaLabel || e.labels?.length))
        .map((e) => e.outerHTML)"""
    )
    assert unnamed == []
