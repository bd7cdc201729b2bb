"""Looks at a report in a headless Chromium. scripts/report-test makes what this reads."""
import json
import sys
import time
from pathlib import Path

from playwright.sync_api import sync_playwright

folder = Path(sys.argv[1]).resolve()
failures = []
checks = 0


def check(holds, what):
    """Counts a check; one that fails is told at the end, so that all of them are seen."""
    global checks
    checks += 1
    if not holds:
        failures.append(what)
        print(f"FAILED: {what}", file=sys.stderr)


def texts(page, selector):
    return page.locator(selector).all_inner_texts()


def column(page, number):
    """The cells of a column of the hot-site table, without the rows of code."""
    return texts(page, f"#sites tbody tr:not(.code) td:nth-child({number})")


def number(text):
    """A number as the page writes it: 1 234 or 5.6 M."""
    text = text.replace("\u202f", "").strip()
    for unit, factor in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if text.endswith(unit):
            return float(text[:-1]) * factor
    return float(text.rstrip("%")) if text else 0.0


def rounded(ratio):
    """Two significant digits of what a ratio exceeds 1 by, as numbers are compared here."""
    return float(f"{ratio:.3f}")


class Opened:
    """A page that is watched for errors and requests."""

    def __init__(self, browser, path, **options):
        self.errors, self.requests = [], []
        self.context = browser.new_context(viewport={"width": 1280, "height": 900}, **options)
        self.page = self.context.new_page()
        self.page.on("console", lambda message: self.errors.append(message.text)
                     if message.type in ("error", "warning") else None)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        started = time.monotonic()
        self.page.goto(path.as_uri())
        self.page.wait_for_selector("html[data-ready=yes]", timeout=10_000)
        self.seconds = time.monotonic() - started

    def close(self, name):
        check(not self.errors, f"{name}: the console has {self.errors}")
        others = [url for url in self.requests if not url.startswith("file:")]
        check(len(self.requests) == 1 and not others, f"{name}: it asked for {self.requests}")
        self.context.close()


def costs(page, compare):
    rows = {row.get_attribute("data-strategy"): row for row in page.locator("#strategies tbody tr").all()}
    check(list(rows) == [entry["name"] for entry in compare["strategies"]], "the strategies are compare's, in its order")
    for entry in compare["strategies"]:
        cells = rows[entry["name"]].locator("td").all_inner_texts()
        if not entry["applicable"]:
            check("not applicable" in cells[0], f"{entry['name']} is not applicable")
            continue
        ratio = entry["ratio_to_native"]
        shown = [float(cells[index]) for index in (1, 2, 3)]
        expected = [ratio["typical"], ratio["low"], ratio["high"]]
        check([rounded(value) for value in shown] == expected, f"{entry['name']}: shows {shown}, compare has {expected}")
        heading = rows[entry["name"]].locator("th").inner_text()
        check(("†" in heading) == entry["hypothetical"], f"{entry['name']}: hypothetical is marked")
        names = texts(page, "#apart tbody th")
        signs = page.locator(f"#apart tr[data-strategy='{entry['name']}'] td").all_inner_texts()
        same = [name.split()[1] for name, sign in zip(names, signs) if sign == "≈"]
        check(same == entry["not_distinguishable_from"], f"{entry['name']}: cannot be told from {same}")
        check(rows[entry["name"]].locator("svg rect").count() >= 1, f"{entry['name']} has a bar")
    body = page.inner_text("body")
    for word in ("Modelled, not measured", "lean on estimates", "bare machine"):
        check(word in body, f"the page says “{word}”")


def hot_sites(page):
    shown = [number(text) for text in column(page, 5)]
    check(len(shown) > 3 and shown == sorted(shown, reverse=True), f"sites come by cycles first: {shown[:5]}")
    page.click('#sites button[data-key="events"]')
    shown = [number(text) for text in column(page, 4)]
    check(shown == sorted(shown, reverse=True), "sites sorted by events")
    check(page.locator("#sites th[aria-sort=descending]").inner_text().startswith("events"), "the order is told")
    page.click('#sites button[data-key="events"]')
    shown = [number(text) for text in column(page, 4)]
    check(shown == sorted(shown), "sites sorted by events, the other way")
    page.click('#sites button[data-key="cycles"]')
    toggle = page.locator("#sites tbody tr:not(.code) button").first
    code = page.locator("#" + toggle.get_attribute("aria-controls"))
    check(not code.is_visible() and toggle.get_attribute("aria-expanded") == "false", "code is closed at first")
    toggle.click()
    check(code.is_visible() and toggle.get_attribute("aria-expanded") == "true", "a row opens to its code")
    check("> " in code.inner_text(), "the code marks its instruction")


def flame(page):
    frames = page.locator("#flame button")
    before = frames.count()
    check(before > 5, f"the flame graph has {before} frames")
    first = page.locator("#flame button[aria-level='2']").last
    name = first.get_attribute("aria-label").split(":")[0]
    first.click()
    page.wait_for_timeout(250)
    zoomed = page.locator("#flame button[aria-level='2']")
    labels = [label.get_attribute("aria-label") for label in zoomed.all()]
    check(len(labels) == 1 and labels[0].startswith(name), f"zooming shows one part of the run: {labels}")
    check(frames.count() != before, "zooming changes what is drawn")
    box, whole = zoomed.bounding_box(), page.locator("#flame").bounding_box()
    check(box["width"] > 0.98 * whole["width"], "the zoomed frame takes the whole width")
    page.click("#zoom-out")
    check(frames.count() == before, "the whole graph is back")
    page.fill("#search", "CPUID")
    hits = page.locator("#flame button.hit").count()
    check(0 < hits < before, f"a search marks frames: {hits}")
    check(page.inner_text("#found").split(" ")[0].isdigit() and "%" in page.inner_text("#found"), "and counts them")
    page.fill("#search", "no such thing")
    check(page.locator("#flame button.hit").count() == 0, "what is not there is not marked")
    check(page.inner_text("#found").startswith("0 frames"), "and counted as none")
    page.keyboard.press("Escape")
    check(page.input_value("#search") == "" and page.inner_text("#found") == "", "Escape clears the search")


def keyboard(page):
    page.keyboard.press("Tab")
    check(page.evaluate("document.activeElement.className") == "skip", "the first stop skips to the costs")
    page.keyboard.press("Tab")
    check(page.evaluate("document.activeElement.id") == "strategy", "the next is the strategy")
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    check(outline != "none", "focus can be seen")
    before = page.input_value("#strategy")
    note = page.inner_text("#why-note")
    page.keyboard.press("ArrowDown" if before == "native" else "ArrowUp")
    page.wait_for_timeout(100)
    after = page.input_value("#strategy")
    check(after != before, "an arrow key chooses another strategy")
    check(page.locator("#strategies tr.on").get_attribute("data-strategy") == after, "the table marks it")
    check(page.inner_text("#why-note") != note, "the rest of the page follows")
    page.select_option("#strategy", before)
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("/")
    check(page.evaluate("document.activeElement.id") == "search", "/ goes to the search")
    page.keyboard.type("cpu")
    check(page.inner_text("#found") != "", "typing searches")
    page.keyboard.press("Escape")
    check(page.input_value("#search") == "", "Escape clears it")
    page.keyboard.press("Tab")
    check(page.evaluate("document.activeElement.getAttribute('role')") == "treeitem", "one stop for the flame graph")
    page.keyboard.press("ArrowDown")
    level = page.evaluate("document.activeElement.getAttribute('aria-level')")
    check(level == "2", f"an arrow key goes down a level: {level}")
    page.keyboard.press("Enter")
    page.wait_for_timeout(250)
    check(page.locator("#flame button[aria-level='2']").count() == 1, "Enter zooms")
    page.keyboard.press("Escape")
    check(page.locator("#zoom-out").is_disabled(), "Escape shows the whole graph")
    reached = set()
    for _ in range(200):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.closest('section')?.id ?? ''"))
    missing = {"which", "when"} - reached
    check(not missing, f"every control can be reached by Tab, but for those of {missing}")
    names = page.evaluate("""[...document.querySelectorAll("button, input, select, a[href]")].filter((node) =>
        !(node.textContent.trim() || node.getAttribute("aria-label") || node.labels?.length)).length""")
    check(names == 0, f"{names} controls have no name")


def patching(page, patch):
    for entry in patch["strategies"]:
        page.select_option("#strategy", entry["name"])
        rows = page.locator("#points tbody tr").all()[1:]
        shown = [(int(row.locator("td").nth(0).inner_text()), float(row.locator("td").nth(3).inner_text()))
                 for row in rows]
        for step in entry["curve"]:
            if step["sites"] in (1, 2, 5):
                check((step["sites"], step["ratio_to_native"]["typical"]) in [(n, rounded(r)) for n, r in shown],
                      f"{entry['name']}: the curve at {step['sites']} sites, of {shown}")


def everything_else(page, compare):
    facts = page.inner_text("#facts")
    check("verified" in facts and f"{compare['verified_digests']}" in facts, "it says what was verified")
    check(page.locator("#timeline svg path").count() > 0, "the timeline is drawn")
    cycles = page.locator("#timeline svg").get_attribute("aria-label")
    page.check('input[name="timeline"][value="events"]')
    check(page.locator("#timeline svg").get_attribute("aria-label") != cycles, "the timeline shows events instead")
    page.check('input[name="timeline"][value="cycles"]')
    check(len(texts(page, "#devices tbody tr")) > 0, "there are devices")
    check(page.locator("#devices tr.register").first.is_visible() is False, "their registers are closed")
    page.locator("#devices button").first.click()
    check(page.locator("#devices tr.register").first.is_visible(), "and open")
    check(page.locator("#curve svg polyline").count() > 1, "the patching curves are drawn")
    check("leaves out" in page.inner_text("#doubts"), "it says what the model leaves out")
    by_class = next(entry for entry in compare["strategies"]
                    if entry["name"] == page.input_value("#strategy"))["by_class"]
    check(page.locator("#paths tr.class").count() == len(by_class), "every class of the strategy has its paths")


def printed(page):
    check(page.locator("#sites tr.closed").count() > 0, "some code is closed on screen")
    page.emulate_media(media="print")
    closed = [row for row in page.locator("#sites tr.code").all() if not row.is_visible()]
    check(not closed, "on paper all code is shown")
    closed = [row for row in page.locator("#devices tr.register").all() if not row.is_visible()]
    check(not closed, "on paper all registers are shown")
    check(not page.locator(".tools").first.is_visible(), "on paper there are no controls")
    page.pdf(path=str(folder / "boot.pdf"), format="A4")
    page.emulate_media(media="screen")


def hostile(browser):
    """The same page with a guest that calls its things like HTML."""
    text = (folder / "boot.html").read_text()
    start = text.index('id="data">') + len('id="data">')
    end = text.index("</script>", start)
    data = json.loads(text[start:end])
    evil = "</script><img src=x onerror=window.evil=1><!--"
    data["machine"]["kernel"] = data["trace"] = evil
    data["flame"]["strings"] = [evil + name for name in data["flame"]["strings"]]
    for site in data["sites"]:
        site["symbol"] = evil
    data["timeline"]["marks"] = [[0, evil]]
    escaped = json.dumps(data).replace("<", "\\u003c").replace(">", "\\u003e")
    path = folder / "hostile.html"
    path.write_text(text[:start] + escaped + text[end:])
    opened = Opened(browser, path)
    check(opened.page.evaluate("window.evil") is None, "what a guest calls things does not run")
    check(opened.page.locator("img").count() == 0, "and makes no elements")
    check(evil in opened.page.inner_text("h1"), "and is shown as it is")
    opened.close("hostile")


def looks(browser):
    for name, options in (("light", {}), ("dark", {"color_scheme": "dark"}), ("calm", {"reduced_motion": "reduce"})):
        opened = Opened(browser, folder / "boot.html", **options)
        page = opened.page
        color = page.evaluate("getComputedStyle(document.body).backgroundColor")
        light = sum(int(part) for part in color[4:-1].split(",")) > 380
        check(light == (name != "dark"), f"{name}: the background is {color}")
        moves = page.evaluate("getComputedStyle(document.querySelector('#flame button')).transitionDuration")
        check((moves == "0s") == (name == "calm"), f"{name}: frames move for {moves}")
        wide = page.evaluate("document.documentElement.scrollWidth - innerWidth")
        check(wide <= 0, f"{name}: the page is {wide} pixels wider than the window")
        page.screenshot(path=str(folder / f"{name}.png"), full_page=True)
        opened.close(name)


def main():
    compare = json.loads((folder / "compare.json").read_text())
    patch = json.loads((folder / "patch.json").read_text())
    size = (folder / "boot.html").stat().st_size
    check(size < 5_000_000, f"the page has {size} bytes")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        opened = Opened(browser, folder / "boot.html")
        page = opened.page
        check(opened.seconds < 2, f"it takes {opened.seconds:.2f} s to open")
        costs(page, compare)
        hot_sites(page)
        flame(page)
        everything_else(page, compare)
        printed(page)
        patching(page, patch)
        opened.close("report")
        fresh = Opened(browser, folder / "boot.html")
        keyboard(fresh.page)
        fresh.close("keyboard")
        looks(browser)
        hostile(browser)
        browser.close()
    print(f"report: {checks} checks, {len(failures)} failed; {size} bytes, open in {opened.seconds:.2f} s")
    return 1 if failures else 0


sys.exit(main())
