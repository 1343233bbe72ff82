"""What is typed and chosen beside the image, in a real browser: it stays where it belongs, and nothing is lost."""

from __future__ import annotations

from bessemer.annotation.documents import document, label_set, save, save_labels
from bessemer.annotation.predictions import import_predictions, predictions
from bessemer.annotation.shapes import Annotation, AttributeDefinition, Box, Label
from bessemer.apps.annotate.server import Server
from browser import NAMED, SAVED, Browser, enter_anew, on_screen

SHAPE = Box(100, 100, 200, 200)


def texts(served: Server, image: int) -> list[str]:
    return [each.text for each in document(served.desk.project, image, "ann").annotations if each.text]


def chosen(window: Browser, served: Server, *attributes: AttributeDefinition) -> None:
    """A shape whose label has these attributes is selected."""
    project = served.desk.project
    if attributes:
        save_labels(project, 1, [Label("crack", attributes=attributes)], "ann")
    save(project, 1, "ann", 0, [Annotation("1", "crack", SHAPE, attributes={"wide": 3} if attributes else {})])
    enter_anew(window, served.link("ann"))
    window.press("v", "Alt+.")
    window.wait("return document.querySelector('.facts') !== null")


def said(served: Server) -> dict[str, object]:
    (one,) = document(served.desk.project, 1, "ann").annotations
    assert one.shape == SHAPE
    return dict(one.attributes)


def test_a_caption_that_is_gone_on_with_is_of_the_image_shown(window: Browser, served: Server) -> None:
    enter_anew(window, served.link("ann"))
    window.press("c")
    window.type("one")
    window.press("Control+Enter")
    window.wait(NAMED, "cell-002.png")
    window.wait("return document.querySelector('.caption').value === ''")
    window.type("two")
    window.press("Escape")
    window.wait(SAVED, "saved")
    assert (texts(served, 1), texts(served, 2)) == (["one"], ["two"])


def test_the_first_click_after_a_caption_counts(window: Browser, served: Server) -> None:
    enter_anew(window, served.link("ann"))
    window.press("c")
    window.type("one")
    window.click(".segment")
    window.wait("return document.querySelector('.segment').classList.contains('on')")
    window.click(".segment", 1)
    window.wait(SAVED, "saved")
    scenes = [each.scene for each in document(served.desk.project, 1, "ann").annotations if each.scene]
    assert texts(served, 1) == ["one"] and scenes == ["environment"]


def test_choices_and_checkboxes_keep_the_keys(window: Browser, served: Server) -> None:
    chosen(window, served)
    window.js("document.querySelector('.line select').focus()")
    window.press("ArrowDown", "ArrowDown")
    window.wait("return document.querySelector('.line select').value === 'deep'")
    window.js("document.querySelector('.line input[type=checkbox]').focus()")
    window.press("Space")
    window.wait("return document.querySelector('.line input[type=checkbox]').checked")
    window.wait(SAVED, "saved")
    assert said(served) == {"depth": "deep", "sure": True}


def test_a_number_can_be_taken_away(window: Browser, served: Server) -> None:
    chosen(window, served, AttributeDefinition("wide", "number"))
    window.click(".line input[type=number]")
    window.press("Control+a", "Backspace")
    window.wait(SAVED, "saved")
    window.wait("return document.activeElement.value === ''")
    assert said(served) == {}


def test_changes_of_labels_survive_a_conflict(window: Browser, served: Server) -> None:
    enter_anew(window, served.link("ann"))
    window.click(".inspector .button[title='Label set']")
    window.js(
        "const color = document.querySelector('.label-row input[type=color]');"
        "color.value = '#123456'; color.dispatchEvent(new Event('input'))"
    )
    before = label_set(served.desk.project)
    save_labels(served.desk.project, before.version, [*before.labels[:2], Label("hot spot")], "bo")
    window.click("dialog .primary")
    window.wait("return document.querySelector('dialog [role=alert]').textContent !== ''")
    window.click("dialog .primary")
    window.wait("return document.querySelector('dialog') === null")
    labels = {label.name: label for label in label_set(served.desk.project).labels}
    assert labels["crack"].color == "#123456" and labels["crack"].attributes == before.labels[0].attributes
    assert "hot spot" in labels


def test_learning_a_key_ends_with_the_next_one_and_with_the_sheet(window: Browser, served: Server) -> None:
    enter_anew(window, served.link("ann"))
    window.press("?")
    window.click("[data-action='tool.box']")
    window.click("[data-action='tool.point']")
    assert window.js("return document.querySelector(\"[data-action='tool.box'] kbd\").textContent") == "B"
    window.press("g")
    window.wait("return document.querySelector(\"[data-action='tool.point'] kbd\").textContent === 'G'")
    window.click("[data-action='tool.box']")
    window.click("dialog header button")
    window.wait("return document.querySelector('dialog') === null")
    for key, wanted in (("g", "point"), ("b", "box"), ("g", "point")):
        window.press(key)
        window.wait("return document.querySelector('.canvas').dataset.tool === arguments[0]", wanted)


def test_hidden_shapes_stay_hidden_with_another_tool(window: Browser, served: Server) -> None:
    chosen(window, served)
    window.press("Alt+h", "b", "v")
    assert window.js("return document.querySelectorAll('.region.away').length") == 1
    window.drag(on_screen(window, (200, 200)))
    assert window.js("return document.querySelectorAll('.region.current').length") == 0


def test_somebody_elses_work_is_not_shown_on_my_page(window: Browser, server: Server) -> None:
    """Two people, one browser, one cookie."""
    save(server.desk.project, 2, "bo", 0, [Annotation("1", "crack", SHAPE)])
    enter_anew(window, server.link("ann"))
    window.js("return fetch(arguments[0]).then((answer) => answer.text())", server.link("bo"))
    window.press("PageDown")
    window.wait(SAVED, "out")
    assert window.js(NAMED, "cell-001.png") and window.js("return document.querySelectorAll('.region').length === 0")
    window.complaints()


def test_all_predictions_that_are_accepted_are_of_the_newest_model(window: Browser, served: Server) -> None:
    """A second model found the same things; a third one, asked before, describes them."""
    project = served.desk.project
    import_predictions(project, "describer", [(1, [Annotation("t", text="a cracked cell", score=0.9)])])
    again = [Annotation("p", "crack", SHAPE, score=0.8), Annotation("q", "busbar", Box(9, 9, 50, 50), score=0.7)]
    import_predictions(project, "detector-4", [(1, again)])
    enter_anew(window, served.link("ann"))
    window.wait("return document.querySelectorAll('.prediction').length === 6")
    window.press("Shift+a", "Shift+a")
    window.wait("return document.querySelectorAll('.prediction').length === 3")
    window.wait(SAVED, "saved")
    taken = document(project, 1, "ann").annotations
    assert sorted(str(each.model_version) for each in taken) == ["describer", "detector-4", "detector-4"]
    assert {p.decision for p in predictions(project, 1, "ann", "detector-3")} == {None}
    window.press("a")  # an older one, by itself
    window.wait(SAVED, "saved")
    assert [each.model_version for each in document(project, 1, "ann").annotations][3:] == ["detector-3"]
    window.press("Control+z", "Control+z", "a")
    window.wait("return document.querySelectorAll('.prediction').length === 5")
    window.wait(SAVED, "saved")
    assert [each.model_version for each in document(project, 1, "ann").annotations] == ["describer"]
