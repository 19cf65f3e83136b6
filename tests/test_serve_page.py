"""The search page in a real browser, by clicking, typing, dropping and pasting."""

import base64
import csv
import re

import numpy as np
import pytest
from browser import Visit, chromium
from serving import encoded, person, process

RESULTS = "#grid .rank"
GALLERY = re.compile(r"/api/entries\?(?!identity=)")
ENTRY = re.compile(r"/api/entries/[^/?]+$")
PATH = re.compile(r"/api/entries\?identity=")
SEARCH = "**/api/search"


@pytest.fixture(scope="module")
def browser():
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    with process(tmp_path_factory.mktemp("served") / "images", people=20, limit_bytes=2**20) as server:
        yield server


@pytest.fixture(scope="module")
def telling(tmp_path_factory):
    """A server whose model tells visible and infrared apart."""
    with process(tmp_path_factory.mktemp("served") / "images", ("visible", "infrared")) as server:
        yield server


def visit(browser, server, **settings):
    """The page once it has answered."""
    opened = Visit(browser, server.address, **settings)
    opened.page.wait_for_selector("#grid li")
    return opened


def upload(page, number, name="someone.png"):
    image = {"name": name, "mimeType": "image/png", "buffer": encoded(person(number, 1))}
    page.set_input_files("#file", image)


def settled(page):
    page.wait_for_selector("#stage[aria-busy=false]")


def identities(page):
    words = page.locator("#grid .card .words").all_inner_texts()
    return [re.search(r"identity (\w+)", text)[1] for text in words]


def status(page, words):
    page.wait_for_function(
        "words => document.getElementById('status').textContent.includes(words)", arg=words
    )


def hold(page, pattern):
    """What the page asks for waits in the list that is returned, until the test lets it go on."""
    held = []
    page.route(pattern, lambda route: held.append(route))
    return held


def asked(page, held, count=1):
    for _ in range(2400):
        if len(held) >= count:
            return
        page.wait_for_timeout(50)
    raise AssertionError(f"asked for {len(held)} times, not {count}")


def seen(page, selector):
    """Whether an element is there and nothing lies over its middle."""
    return page.locator(selector).evaluate(
        """element => { const { left, top, width, height } = element.getBoundingClientRect();
        return element.contains(document.elementFromPoint(left + width / 2, top + height / 2)); }"""
    )


def test_upload_filter_click_through_and_back(browser, running):
    with visit(browser, running) as page:
        assert "60 images" in page.inner_text("#about") and "3 cameras" in page.inner_text("#about")
        assert "check every result by eye" in page.inner_text(".notice")
        upload(page, 3)
        status(page, "20 results")
        assert identities(page)[:3] == ["p3"] * 3
        assert (
            page.inner_text("#grid .rank >> nth=0") == "1"
            and page.inner_text("#grid .words b >> nth=0") == "0.000"
        )
        assert page.inner_text("#query-name") == "someone.png"
        assert page.locator("#query-frame img").evaluate("image => image.naturalWidth") == 32

        page.check("text=north gate")
        status(page, "camera north gate")
        assert page.locator("#grid .card").count() == 20 and identities(page)[0] == "p3"
        assert all("north gate" in text for text in page.locator("#grid .words").all_inner_texts())
        page.click("#clear")
        page.wait_for_function("() => !document.getElementById('status').textContent.includes('camera')")
        status(page, "20 results")
        page.select_option("[name=top]", "50")
        status(page, "50 results")
        page.select_option("[name=modality]", "infrared")
        status(page, "infrared only")
        assert page.locator("#grid .card").count() == 20
        page.fill("[name=since]", "2001-01-01T00:00:00")
        page.fill("[name=until]", "2002-01-01T00:00:00")
        page.wait_for_selector("text=No image in the gallery passes these filters")
        page.click("#clear")
        status(page, "20 results")

        page.click("#grid .card:nth-child(4) .from")
        status(page, "20 results")
        page.wait_for_function("() => location.hash.startsWith('#key=')")
        assert "From the gallery" in page.inner_text("#query-name")
        page.go_back()
        page.wait_for_function("() => document.getElementById('query-name').textContent === 'someone.png'")
        settled(page)
        assert identities(page)[:3] == ["p3"] * 3


def test_an_address_with_a_key_searches_from_that_entry(browser, running):
    with visit(browser, running) as page:
        page.click("#grid .card:nth-child(7) .show")
        page.wait_for_selector(RESULTS)
        first = identities(page)
        assert first[:2] == ["p2", "p2"]
        page.reload()
        page.wait_for_selector(RESULTS)
        assert identities(page) == first


def test_side_by_side_with_the_keyboard(browser, running):
    with visit(browser, running) as page:
        upload(page, 5)
        page.wait_for_selector(RESULTS)
        settled(page)
        page.focus("#grid .card:nth-child(2) .show")
        page.keyboard.press("ArrowRight")
        page.keyboard.press("Enter")
        assert page.locator("#pair").is_visible()
        assert page.inner_text("#pair-rank").startswith("Rank 3, distance ")
        assert page.locator("#pair-query img").get_attribute("src").startswith("data:image/jpeg")
        page.wait_for_function("() => document.querySelector('#pair-result img').naturalWidth === 32")
        assert "p5" in page.inner_text("#pair-result-words") and "someone.png" in page.inner_text(
            "#pair-query-words"
        )
        page.keyboard.press("ArrowRight")
        assert page.inner_text("#pair-rank").startswith("Rank 4, ")
        for _ in range(5):
            page.keyboard.press("ArrowLeft")
        assert page.inner_text("#pair-rank").startswith("Rank 1, ") and page.is_disabled("#pair-previous")
        page.keyboard.press("Escape")
        page.wait_for_selector("#pair", state="hidden")
        # The dialog is hidden first and says so afterwards, which is when the focus goes back to the card.
        page.wait_for_function("() => document.activeElement === document.querySelector('#grid .card .show')")
        page.keyboard.press("Enter")
        page.click("#pair-search")
        status(page, "20 results")
        assert page.locator("#pair").is_hidden() and "identity p5" in page.inner_text("#query-name")


def test_everything_can_be_reached_with_the_tab_key(browser, running):
    with visit(browser, running) as page:
        page.evaluate("document.activeElement.blur()")
        seen = []
        for _ in range(40):
            page.keyboard.press("Tab")
            seen.append(
                page.evaluate(
                    """() => { const a = document.activeElement, s = getComputedStyle(a);
                    const near = a.id === 'file' ? getComputedStyle(document.querySelector('.ways .button')) : s;
                    return [a.id || a.name || a.className, near.outlineStyle !== 'none']; }"""
                )
            )
        names = [name for name, _ in seen]
        order = [
            "skip",
            "file",
            "from-gallery",
            "camera",
            "modality",
            "since",
            "until",
            "column_name",
            "column_text",
            "rerank",
            "top",
            "clear",
            "show-gallery",
            "show",
        ]
        places = [names.index(name) for name in order]
        assert places == sorted(places), names
        assert [name for name, visible in seen if not visible] == []


def test_controls_and_images_have_names(browser, running):
    with visit(browser, running) as page:
        upload(page, 5)
        page.wait_for_selector(RESULTS)
        nameless = page.evaluate(
            """() => [...document.querySelectorAll('button, input, select, summary, a')]
            .filter(e => !(e.getAttribute('aria-label') || e.textContent.trim() || e.labels?.length))
            .map(e => e.outerHTML)"""
        )
        assert nameless == []
        assert page.evaluate("[...document.images].every(image => image.hasAttribute('alt'))")
        label = page.get_attribute("#grid .card:nth-child(1) .show", "aria-label")
        assert label.startswith("Rank 1, distance 0.000, camera 2")
        assert (
            page.get_attribute("#status", "role") == "status"
            and page.get_attribute("#error", "role") == "alert"
        )


@pytest.mark.parametrize("way", ["paste", "drop"])
def test_paste_and_drop(browser, running, way):
    with visit(browser, running) as page:
        content = base64.b64encode(encoded(person(6))).decode()
        page.evaluate(
            """([way, content]) => {
                const bytes = Uint8Array.from(atob(content), c => c.charCodeAt(0));
                const data = new DataTransfer();
                data.items.add(new File([bytes], 'from elsewhere.png', {type: 'image/png'}));
                const event = way === 'paste'
                    ? new ClipboardEvent('paste', {clipboardData: data, bubbles: true, cancelable: true})
                    : new DragEvent('drop', {dataTransfer: data, bubbles: true, cancelable: true});
                document.body.dispatchEvent(event);
            }""",
            [way, content],
        )
        page.wait_for_selector(RESULTS)
        assert identities(page)[:3] == ["p6"] * 3 and "from elsewhere.png" in page.inner_text("#query-name")


def test_lists_are_saved(browser, running, tmp_path):
    with visit(browser, running) as page:
        assert page.is_disabled("#save-csv") and page.is_disabled("#save-html")
        upload(page, 0, name="<b>odd & name</b>.png")
        status(page, "20 results")
        shown = identities(page)
        with page.expect_download() as download:
            page.click("#save-csv")
        download.value.save_as(tmp_path / "list.csv")
        with open(tmp_path / "list.csv", encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        assert [row["identity"] for row in rows] == shown and [row["rank"] for row in rows] == [
            *map(str, range(1, 21))
        ]
        assert float(rows[0]["distance"]) == pytest.approx(0, abs=1e-5) and rows[0]["time"].endswith("Z")
        assert rows[0]["place"] == "'=1+1"  # or a spreadsheet would compute it
        with page.expect_download() as download:
            page.click("#save-html")
        download.value.save_as(tmp_path / "list.html")
    text = (tmp_path / "list.html").read_text(encoding="utf-8")
    assert (
        "http" not in re.sub(r'content="[^"]*"|http-equiv', "", text) and "check every result by eye" in text
    )
    opened = Visit(browser, (tmp_path / "list.html").as_uri())
    with opened as page:
        widths = page.evaluate("[...document.images].map(image => image.naturalWidth)")
        assert widths == [32] * 21
        assert page.locator("ol li").count() == 20 and "Query: <b>odd & name</b>.png" in page.inner_text(
            "body"
        )
        assert page.evaluate("getComputedStyle(document.querySelector('ol')).display") == "grid"
        opened.requests = [url for url in opened.requests if not url.startswith("file:")]


def test_errors_are_shown_and_leave(browser, running):
    with visit(browser, running) as page:
        upload(page, 1)
        page.wait_for_selector(RESULTS)
        for content, words in (
            (b"no image" * 9, "not a readable image"),
            (b"\xff" * (2**20 + 1), "at most 1 MB"),
        ):
            page.set_input_files("#file", {"name": "broken.jpg", "mimeType": "image/jpeg", "buffer": content})
            page.wait_for_function(
                "words => document.getElementById('error').innerText.includes(words)", arg=words
            )
            settled(page)
            assert page.locator("#grid .card").count() == 0 and page.is_disabled("#save-csv")
        page.click("#error button")
        assert page.locator("#error").is_hidden()
        upload(page, 1)
        page.wait_for_selector(RESULTS)
        assert page.locator("#error").is_hidden()
        page.route("**/api/search", lambda route: route.abort())
        upload(page, 2)
        page.wait_for_selector("text=The server does not answer")
        page.unroute("**/api/search")
        page.route("**/api/entries/*/image*", lambda route: route.fulfill(status=404, body="{}"))
        page.click("#show-gallery")
        page.wait_for_selector("text=image missing")


def test_a_busy_server_is_asked_again(browser, running):
    with visit(browser, running) as page:
        answers = []

        def busy(route):
            answers.append(route)
            if len(answers) > 2:
                return route.continue_()
            route.fulfill(status=503, headers={"Retry-After": "1"}, json={"error": "The server is busy."})

        page.route("**/api/search", busy)
        upload(page, 4)
        status(page, "trying again in 1 seconds")
        status(page, "20 results")
        assert len(answers) == 3 and identities(page)[0] == "p4"


def test_long_texts_leave_room_for_others(browser, running):
    def lengthen(route):
        answer = route.fetch()
        found = answer.json()
        entry = found["hits"][1]["entry"]
        entry["identity"], entry["columns"] = "y" * 250, {"the name of a column " * 4: "value"}
        route.fulfill(response=answer, json=found)

    with visit(browser, running) as page:
        page.route(SEARCH, lengthen)
        upload(page, 5)
        status(page, "20 results")
        heights = page.locator("#grid .card").evaluate_all("cards => cards.map(card => card.offsetHeight)")
        assert max(heights) < 1.2 * min(heights)
        page.click("#grid .card:nth-child(2) .show")
        assert "y" * 250 in page.inner_text("#pair-result-words")
        assert page.locator("#pair-result-words dd:has-text('value')").bounding_box()["width"] > 100


def test_a_name_that_turns_its_direction_turns_no_other_words(browser, running):
    """The words behind a camera's name stay on its right."""

    def renamed(route):
        answer = route.fetch()
        found = answer.json()
        found["hits"][0]["entry"]["camera"] = "\u202egate\u2069"
        route.fulfill(response=answer, json=found)

    measure = """card => { const text = card.querySelector('.words span').firstChild;
        const place = word => { const range = document.createRange(), at = text.data.indexOf(word);
            range.setStart(text, at); range.setEnd(text, at + word.length);
            return range.getBoundingClientRect().left; };
        card.style.width = '30rem';
        return ['camera', 'mera', 'gate', 'visible', 'ble'].map(place); }"""
    with visit(browser, running) as page:
        page.route(SEARCH, renamed)
        upload(page, 5)
        status(page, "20 results")
        places = page.locator("#grid .card").first.evaluate(measure)
        assert places == sorted(places), places


def test_browsing_pages(browser, running):
    with visit(browser, running) as page:
        assert page.locator("#grid .card").count() == 48 and page.inner_text("#page-words") == "1 to 48"
        assert page.is_disabled("#previous")
        page.click("#next")
        page.wait_for_function("() => document.getElementById('page-words').textContent === '49 to 60'")
        assert page.locator("#grid .card").count() == 12 and page.is_disabled("#next")
        page.check("[name=camera][value='1']")
        status(page, "camera 1")
        assert page.locator("#grid .card").count() == 20 and page.locator("#pager").is_hidden()


def test_the_modality_is_asked_for(browser, telling):
    with visit(browser, telling) as page:
        upload(page, 2)
        status(page, "visible light or infrared?")
        assert page.locator("#grid .card").count() == 0
        page.wait_for_function("() => document.activeElement.name === 'query_modality'")
        page.focus("[name=camera][value='1']")
        page.evaluate("document.activeElement.click()")
        status(page, "visible light or infrared?")
        assert page.evaluate("document.activeElement.name") == "camera"  # asked once, not at each filter
        page.click("#clear")
        page.check("[name=query_modality][value=infrared]")
        page.wait_for_selector(RESULTS)
        assert identities(page)[:3] == ["p2"] * 3
        page.click("#grid .card:nth-child(2) .from")
        page.wait_for_function("() => document.querySelector('[name=query_modality]').disabled")
        upload(page, 3)
        status(page, "visible light or infrared?")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_readable_on_a_phone(browser, telling, scheme):
    with visit(browser, telling, width=360, height=740, color_scheme=scheme, has_touch=True) as page:
        upload(page, 2)
        page.check("[name=query_modality][value=visible]")
        page.wait_for_selector(RESULTS)
        settled(page)
        for _ in range(2):
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
            small = page.evaluate(
                """() => [...document.querySelectorAll('button, .button, select, summary')]
                .filter(e => e.checkVisibility() && e.getBoundingClientRect().height < 24).map(e => e.outerHTML)"""
            )
            assert small == []
            if not page.locator("#pair").is_visible():
                page.click("#grid .card:nth-child(1) .show")
        boxes = [page.locator(f"#pair-{side}").bounding_box() for side in ("query", "result")]
        assert boxes[0]["y"] == pytest.approx(boxes[1]["y"], abs=1) and boxes[0]["x"] < boxes[1]["x"]
        ink, ground = page.evaluate(
            "[getComputedStyle(document.body).color, getComputedStyle(document.body).backgroundColor]"
        )
        dark = [sum(map(int, re.findall(r"\d+", colour)[:3])) < 200 for colour in (ink, ground)]
        assert dark == ([True, False] if scheme == "light" else [False, True])


def test_a_path_can_be_read_on_a_phone(browser, running):
    def forget(route):
        answer = route.fetch()
        found = answer.json()
        found["entries"][0]["camera"] = None
        route.fulfill(response=answer, json=found)

    with visit(browser, running, width=360, height=740) as page:
        page.route(PATH, forget)
        upload(page, 5)
        status(page, "20 results")
        page.click("#grid .card:nth-child(1) .show")
        page.click("#pair-path")
        page.wait_for_selector("#path svg rect.seen")
        # Drawn with letters of 12 pixels, 760 wide; the dialog is narrower, and the drawing is moved in it.
        assert page.locator("#path svg").bounding_box()["width"] > 600
        assert page.locator("#path").evaluate("dialog => dialog.scrollWidth <= dialog.clientWidth")
        names = ["camera not known", "camera 2", "camera north gate"]
        assert page.locator("#path svg text").all_text_contents()[2:] == names
        said = page.locator("#path svg title").text_content()
        assert [each.partition(" at ")[0] for each in re.findall(r"camera .*? at ", said)] == names


def test_nothing_moves_while_it_loads(browser, running):
    opened = visit(browser, running)
    with opened as page:
        page.evaluate(
            """() => { window.shifts = new PerformanceObserver(list => window.moves.push(...list.getEntries()));
            window.moves = []; window.shifts.observe({type: 'layout-shift', buffered: true}); }"""
        )
        upload(page, 3)
        page.wait_for_selector(RESULTS)
        settled(page)
        page.wait_for_function("() => [...document.images].every(image => image.complete)")
        moved = page.evaluate(
            """async () => { for (let frame = 0; frame < 2; frame++) await new Promise(requestAnimationFrame);
            const moves = [...window.moves, ...window.shifts.takeRecords()];
            return moves.filter(move => !move.hadRecentInput).reduce((sum, move) => sum + move.value, 0); }"""
        )
        assert moved < 0.02


def test_an_empty_gallery_says_so(browser, tmp_path):
    with process(tmp_path / "images", people=0) as server, visit(browser, server) as page:
        assert "The gallery is empty" in page.inner_text("#grid")
        upload(page, 1)
        status(page, "0 results")


@pytest.mark.slow
def test_login_in_the_browser(browser, tmp_path):
    token = "a token of many words"
    with process(tmp_path / "images", token=token) as server, Visit(browser, server.address) as page:
        assert page.url.endswith("/login")
        page.fill("#token", "wrong")
        page.keyboard.press("Enter")
        page.wait_for_selector("text=That is not the token")
        page.fill("#token", token)
        page.keyboard.press("Enter")
        page.wait_for_selector("#grid .card")
        assert token not in page.url
        page.wait_for_function(
            "() => [...document.querySelectorAll('img[src]')].every(image => image.complete && image.naturalWidth)"
        )
        page.click("text=Log out")
        page.wait_for_url("**/login")
        page.goto(server.address)
        assert page.url.endswith("/login")


def test_new_filters_hold_for_the_list_that_was_asked_for_last(browser, running):
    with visit(browser, running) as page:
        searches = hold(page, SEARCH)
        page.click("#grid .card:nth-child(7) .show")
        asked(page, searches)
        page.check("text=north gate")
        asked(page, searches, 2)
        searches[1].continue_()
        status(page, "20 results, nearest first")
        assert "(camera north gate)" in page.inner_text("#status") and page.locator(RESULTS).count() == 20

        pages = hold(page, GALLERY)
        page.click("#show-gallery")
        asked(page, pages)
        page.click("#clear")
        asked(page, pages, 2)
        pages[1].continue_()
        status(page, "Choose an image")
        assert page.locator("#grid .card").count() == 48 and page.locator(RESULTS).count() == 0

        # The results are those of the filters that are there now.
        page.click("#show-results")
        asked(page, searches, 3)
        searches[2].continue_()
        status(page, "20 results")
        assert "camera" not in page.inner_text("#status")
        # And if the same ones are there, a gallery under way does not come after them.
        page.click("#show-gallery")
        asked(page, pages, 3)
        page.click("#show-results")
        pages[2].continue_()
        settled(page)
        assert page.locator(RESULTS).count() == 20 and len(searches) == 3


def test_new_filters_while_the_entry_of_an_address_is_fetched(browser, running):
    with visit(browser, running) as page:
        page.click("#grid .card:nth-child(7) .show")
        status(page, "20 results")
        page.go_back()
        status(page, "Choose an image")
        entries = hold(page, ENTRY)
        page.go_forward()
        asked(page, entries)
        page.check("text=north gate")
        asked(page, entries, 2)
        entries[1].continue_()
        status(page, "20 results")
        assert "(camera north gate)" in page.inner_text("#status") and identities(page)[0] == "p2"


def test_a_list_stays_what_it_was_while_the_next_is_searched(browser, running):
    with visit(browser, running) as page:
        upload(page, 5)
        status(page, "20 results")
        searches = hold(page, SEARCH)
        page.click("#grid .card:nth-child(9) .from")
        asked(page, searches)
        assert page.is_disabled("#save-csv") and page.is_disabled("#save-html")
        page.click("#grid .card:nth-child(2) .show")
        assert "someone.png" in page.inner_text("#pair-query-words")
        searches[0].continue_()
        status(page, "20 results")
        page.keyboard.press("ArrowRight")
        assert page.inner_text("#pair-rank").startswith("Rank 3, ")
        assert "someone.png" in page.inner_text("#pair-query-words")
        page.keyboard.press("Escape")
        assert "From the gallery" in page.inner_text("#query-name")

        # A search that fails leaves no list of other filters. What was opened before stays, and the complaint, which is
        # seen in there, stays too.
        page.check("text=north gate")
        asked(page, searches, 2)
        page.click("#grid .card:nth-child(2) .show")
        searches[1].abort()
        page.wait_for_selector("#error:has-text('The server does not answer')")
        settled(page)
        assert page.locator("#grid .card").count() == 0 and page.is_disabled("#save-csv")
        assert page.locator("#pair").is_visible() and seen(page, "#error")
        page.click("#pair-path")
        page.wait_for_selector("#path svg rect.seen")
        assert seen(page, "#error")
        page.click("#path-close")
        page.wait_for_selector("#stage #error:has-text('The server does not answer')")
        assert seen(page, "#error")


def test_an_error_is_dismissed_in_a_dialog_whose_keys_go_on(browser, running):
    with visit(browser, running) as page:
        upload(page, 5)
        status(page, "20 results")
        searches = hold(page, SEARCH)
        page.check("text=north gate")
        asked(page, searches)
        page.click("#grid .card:nth-child(2) .show")
        searches[0].abort()
        page.wait_for_selector("#pair #error:has-text('The server does not answer')")
        page.click("#error button")
        page.keyboard.press("ArrowRight")
        assert page.locator("#error").is_hidden() and page.inner_text("#pair-rank").startswith("Rank 3, ")


def test_a_list_is_saved_as_it_was_searched(browser, running, tmp_path):
    with visit(browser, running) as page:
        page.check("[name=camera][value='1']")
        upload(page, 5)
        status(page, "20 results")
        assert "(camera 1)" in page.inner_text("#status")
        images = hold(page, "**/image?size=thumbnail")
        page.click("#save-html")
        asked(page, images)
        page.uncheck("[name=camera][value='1']")
        page.check("[name=camera][value='2']")
        status(page, "(camera 2)")
        with page.expect_download() as download:
            page.route("**/image?size=thumbnail", lambda route: route.continue_())
            for route in images:
                route.continue_()
        assert "(camera 2)" in page.inner_text("#status")
        download.value.save_as(tmp_path / "list.html")
    text = (tmp_path / "list.html").read_text(encoding="utf-8")
    assert "Among 60 images: camera 1<" in text and text.count("<span>camera 1, ") == 20


def test_a_list_is_saved_with_all_of_its_images_or_not_at_all(browser, running, tmp_path):
    with visit(browser, running) as page:
        upload(page, 5)
        status(page, "20 results")
        answers = []

        def busy(route):
            answers.append(route)
            if len(answers) == 3:
                route.fulfill(status=503, headers={"Retry-After": "1"}, json={"error": "The server is busy."})
            elif len(answers) == 5:
                route.fulfill(status=404, json={"error": "There is no such image in the gallery."})
            else:
                route.continue_()

        page.route("**/image?size=thumbnail", busy)
        with page.expect_download() as download:
            page.click("#save-html")
        download.value.save_as(tmp_path / "list.html")
        text = (tmp_path / "list.html").read_text(encoding="utf-8")
        assert len(answers) == 21 and text.count("<img") == 20 and text.count("no image") == 1
        page.unroute("**/image?size=thumbnail")
        page.route("**/image?size=thumbnail", lambda route: route.abort())
        page.click("#save-html")
        page.wait_for_selector("#error:has-text('The list was not saved. The server does not answer')")
        status(page, "The list was not saved")
        assert page.is_enabled("#save-html") and page.locator(RESULTS).count() == 20


def test_the_next_page_is_the_next_however_often_it_is_asked_for(browser, running):
    with visit(browser, running) as page:
        pages = hold(page, GALLERY)
        page.click("#next")
        asked(page, pages)
        page.click("#next")
        asked(page, pages, 2)
        pages[1].continue_()
        settled(page)
        assert page.inner_text("#page-words") == "49 to 60" and page.locator("#grid .card").count() == 12


def test_the_focus_stays_where_something_newer_was_asked_for(browser, running):
    with visit(browser, running) as page:
        pages = hold(page, GALLERY)
        page.click("#from-gallery")
        asked(page, pages)
        upload(page, 5)
        status(page, "20 results")
        assert page.evaluate("document.activeElement.id") == "from-gallery"
        page.focus(".skip")
        page.keyboard.press("Enter")
        page.wait_for_function("() => document.activeElement.id === 'grid'")
        settled(page)
        assert page.locator(RESULTS).count() == 20 and len(pages) == 1


def test_another_query_closes_what_was_open_about_the_last(browser, running):
    with visit(browser, running) as page:
        upload(page, 5)
        status(page, "20 results")
        page.click("#mark")
        page.wait_for_function("() => document.querySelector('#marker-image').naturalWidth === 32")
        frame = page.locator("#marker-image").bounding_box()
        page.mouse.move(frame["x"] + 5, frame["y"] + 5)
        page.mouse.down()
        page.keyboard.press("Escape")
        page.evaluate("document.getElementById('mark').click()")
        page.mouse.move(frame["x"] + 25, frame["y"] + 25)
        assert page.locator("#marker-box").is_hidden()  # the drawing ended when the dialog was closed
        page.mouse.up()
        page.go_back()
        page.wait_for_selector("#marker", state="hidden")
        status(page, "Choose an image")
        page.go_forward()
        status(page, "20 results")
        page.click("#grid .card:nth-child(2) .show")
        upload(page, 6)
        page.wait_for_selector("#pair", state="hidden")
        status(page, "20 results")


def test_back_after_a_reload_shows_no_other_upload(browser, running):
    with visit(browser, running) as page:
        upload(page, 5)
        status(page, "20 results")
        page.reload()
        status(page, "Choose an image")
        upload(page, 6)
        status(page, "20 results")
        page.go_back()
        page.wait_for_function("() => !document.getElementById('status').textContent.includes('20 results')")
        settled(page)
        assert "Choose an image" in page.inner_text("#status") and page.locator(RESULTS).count() == 0


def test_an_image_that_is_missing_is_said_of_itself_only(browser, running):
    with visit(browser, running) as page:
        upload(page, 5)
        status(page, "20 results")
        images = hold(page, "**/image?size=full")
        page.click("#grid .card:nth-child(1) .show")
        asked(page, images)
        # The listener that the page has added comes first.
        page.evaluate(
            "document.querySelector('#pair-result img').addEventListener('error', () => (window.failed = true))"
        )
        page.keyboard.press("ArrowRight")
        asked(page, images, 2)
        images[1].continue_()
        page.wait_for_function("() => document.querySelector('#pair-result img').naturalWidth === 32")
        images[0].fulfill(status=404, body="{}")
        page.wait_for_function("() => window.failed")
        assert page.inner_text("#pair-result") == ""


def test_a_person_is_followed_while_new_filters_search(browser, running):
    """What was clicked is shown, however soon after a filter; and the search of the filter goes on."""
    with visit(browser, running) as page:
        upload(page, 5)
        status(page, "20 results")
        paths = hold(page, PATH)
        page.evaluate("""() => {
            document.querySelector('#cameras input[value="1"]').click();
            document.querySelector('#grid .card:nth-child(2) .show').click();
            document.querySelector('#pair-path').click();
        }""")
        status(page, "(camera 1)")
        asked(page, paths)
        paths[0].continue_()
        page.wait_for_selector("#path svg rect.seen")
        assert "p5" in page.inner_text("#path-heading")
        settled(page)
        assert len(identities(page)) == 20


def test_the_path_that_is_shown_is_of_the_person_followed_last(browser, running):
    with visit(browser, running) as page:
        upload(page, 5)
        status(page, "20 results")
        other = identities(page)[9]
        paths = hold(page, PATH)

        def follow(place):
            before = len(paths)
            page.click(f"#grid .card:nth-child({place}) .show")
            page.click("#pair-path")
            asked(page, paths, before + 1)

        # Requests that have ended and been dealt with, however they ended.
        page.evaluate(
            """() => { window.ended = 0; const send = XMLHttpRequest.prototype.send;
            XMLHttpRequest.prototype.send = function (body) {
                this.addEventListener('loadend', () => setTimeout(() => (window.ended += 1)));
                send.call(this, body); }; }"""
        )
        follow(1)
        assert page.inner_text("#path-heading") == "Path of p5"
        page.click("#path-close")
        follow(10)
        paths[1].continue_()
        page.wait_for_selector("#path svg rect.seen")
        paths[0].continue_()
        page.wait_for_function("() => window.ended === 2")
        assert page.inner_text("#path-heading") == f"Path of {other}"
        words = page.locator("#path-list .words").all_inner_texts()
        assert len(words) == 3 and all(f"identity {other}" in text for text in words)
        page.click("#path-close")
        follow(1)
        paths[2].abort()
        page.wait_for_selector("#path-words:has-text('The server does not answer')")
        assert page.locator("#error").is_hidden() and page.locator("#path-list li").count() == 0


def test_a_person_is_marked_in_a_larger_image_and_followed(browser, running):
    with visit(browser, running) as page:
        wide = np.full((64, 160, 3), 90, np.uint8)
        wide[:, 100:132] = person(4)
        page.set_input_files("#file", {"name": "yard.png", "mimeType": "image/png", "buffer": encoded(wide)})
        page.wait_for_selector(RESULTS)
        settled(page)
        page.click("#mark")
        page.wait_for_function("() => document.querySelector('#marker-image').naturalWidth === 160")
        grounds = [
            page.locator(f"#marker-{name}").evaluate("button => getComputedStyle(button).backgroundColor")
            for name in ("search", "whole")
        ]
        assert page.is_disabled("#marker-search") and grounds[0] == grounds[1]
        frame = page.locator("#marker-image").bounding_box()
        left, right = (frame["x"] + frame["width"] * edge / 160 for edge in (100, 132))
        page.mouse.move(left, frame["y"] + 1)
        page.mouse.down()
        page.mouse.move(right, frame["y"] + frame["height"] - 1, steps=4)
        page.mouse.up()
        assert abs(int(page.input_value('#marker input[name="left"]')) - 100) <= 1
        page.click("#marker-search")
        status(page, "20 results")
        assert identities(page)[:3] == ["p4"] * 3
        # Other cameras only, of an entry that says which took it.
        page.click("#grid .card:nth-child(1) .from")
        status(page, "20 results")
        assert page.locator("#others-line").is_visible()
        page.check('#filter input[name="other_cameras"]')
        status(page, "20 results")
        camera = re.search(r"camera [^,]+,", page.inner_text("#query-name"))[0]
        assert not any(camera in text for text in page.locator("#grid .words").all_inner_texts())
        page.click("#grid .card:nth-child(1) .show")
        assert "was not evaluated" in page.inner_text("#pair-worth")
        page.click("#pair-path")
        page.wait_for_selector("#path svg rect.seen")
        assert page.locator("#path svg rect.seen").count() == 3
        assert "p4" in page.inner_text("#path-heading")
        page.click("#path-close")
        assert page.locator("#path").is_hidden()
