// Which key does what. Where Label Studio has a key for something, it is the same one. Everything can be changed in the
// help sheet; what was changed stays in this browser.

import { button, dialog, el, fill } from "./dom.js";
import { keepSetting, setting } from "./state.js";
import { t } from "./strings.js";

// action -> its keys; the groups are those of the help sheet
export const GROUPS = {
  tools: {
    "tool.select": ["v"], "tool.box": ["b"], "tool.rotated": ["r"], "tool.polygon": ["p"], "tool.point": ["o"],
    "draw.place": ["Enter"], "draw.close": ["Shift+Enter"], "draw.cancel": ["Escape"], "draw.part": ["Shift+p"], "draw.hole": ["Alt+p"],
  },
  regions: {
    "edit.undo": ["Ctrl+z"], "edit.redo": ["Ctrl+Shift+z", "Ctrl+y"], "edit.delete": ["Backspace", "Delete"],
    "edit.duplicate": ["Ctrl+d"], "edit.copyPrevious": ["Ctrl+Shift+v"], "edit.selectAll": ["Ctrl+a"],
    "select.none": ["u"], "select.next": ["Alt+."], "select.previous": ["Alt+,"], "view.hide": ["Alt+h"],
    "vertex.next": ["n"], "vertex.previous": ["Shift+n"], "vertex.insert": ["Insert", "Shift+i"],
    "label.last": ["l"], "caption.focus": ["c"], "scene.next": ["s"],
  },
  predictions: { "prediction.accept": ["a"], "prediction.reject": ["x"], "prediction.all": ["Shift+a"], "prediction.next": ["."] },
  images: {
    "image.submit": ["Ctrl+Enter"], "image.skip": ["Ctrl+Space"], "image.previous": ["Ctrl+ArrowLeft", "PageUp"],
    "image.next": ["Ctrl+ArrowRight", "PageDown"], "search.focus": ["/"], "history.show": ["h"],
  },
  view: {
    "view.fit": ["f"], "view.full": ["z"], "view.in": ["+", "="], "view.out": ["-"], "view.invert": ["i"],
    "view.darker": ["["], "view.brighter": ["]"], "view.flatter": ["{"], "view.steeper": ["}"], "view.reset": ["\\"],
    "view.predictions": ["Alt+m"],
  },
  pages: { "page.draw": ["Alt+1"], "page.rank": ["Alt+2"], "page.agreement": ["Alt+3"], "page.review": ["Alt+r"], "help.show": ["?", "F1"] },
};

const DEFAULTS = Object.assign({}, ...Object.values(GROUPS));
let custom = setting("keys", {});
let table = new Map();

const CODES = { Period: ".", Comma: "," }; // with Alt, a Mac makes other signs of the keys

/** The name of a pressed key: modifiers in a fixed order, then the key; a shifted sign is the sign alone. */
export function nameOf(event) {
  let key = event.key === " " ? "Space" : event.key;
  const letter = key.length === 1 && key.toLowerCase() !== key.toUpperCase();
  if (letter) key = key.toLowerCase();
  if (event.altKey) key = CODES[event.code] ?? (/^(Key|Digit)/.test(event.code) ? event.code.replace(/^(Key|Digit)/, "").toLowerCase() : key);
  const shift = event.shiftKey && (letter || key.length > 1 || event.ctrlKey || event.altKey);
  return `${event.ctrlKey || event.metaKey ? "Ctrl+" : ""}${event.altKey ? "Alt+" : ""}${shift ? "Shift+" : ""}${key}`;
}

function rebuild() {
  table = new Map();
  for (const action of Object.keys(DEFAULTS)) for (const key of keysOf(action)) table.set(key, action);
}

export function keysOf(action) {
  const own = custom[action];
  return Array.isArray(own) ? own.filter((key) => typeof key === "string") : DEFAULTS[action];
}

rebuild();

/** The action of a pressed key, or undefined. */
export const actionOf = (event) => table.get(nameOf(event));

/** "Title (key)" */
export function withKey(title, action) {
  const key = keysOf(action)[0];
  return key ? `${title} (${shownKey(key)})` : title;
}

const shownKey = (key) => key.replace("ArrowLeft", "←").replace("ArrowRight", "→").replace("Escape", "Esc").replace(/(^|\+)([a-z])$/, (_, plus, letter) => plus + letter.toUpperCase());

/** The sheet of all keys; every one can be changed. */
export function showHelp() {
  const body = el("div", { class: "help" });
  const draw = () => fill(body,
    el("p", { class: "muted" }, t("help.intro")),
    el("div", { class: "help-groups" }, Object.entries(GROUPS).map(([group, actions]) => el("section", {},
      el("h3", {}, t(`help.${group}`)),
      el("dl", {}, Object.keys(actions).map((action) => [
        el("dt", {}, el("button", { type: "button", class: "key-row", title: t("help.change"), data: { action }, on: { click: (event) => learn(action, event.currentTarget, draw) } },
          keysOf(action).length ? keysOf(action).map((key) => el("kbd", {}, shownKey(key))) : "—")),
        el("dd", {}, t(`key.${action}`)),
      ])),
    )),
      el("section", {}, el("h3", {}, t("help.fixed")),
        el("dl", {}, ["digits", "arrows", "arrowsShift", "arrowsAlt", "space", "wheel", "shiftClick", "doubleClick", "crosshair"].map((name) => [
          el("dt", {}, el("span", { class: "fixed" }, t(`fixed.${name}.keys`))), el("dd", {}, t(`fixed.${name}`)),
        ])))));
  draw();
  const reset = button("undo", t("help.reset"), () => {
    custom = {};
    keepSetting("keys", custom);
    rebuild();
    draw();
  }, t("help.reset"));
  dialog(t("help.title"), body, [reset], { wide: true });
  body.closest("dialog").addEventListener("close", () => learning.abort());
}

let learning = new AbortController(); // of the one key that is being learnt

function learn(action, row, redraw) {
  learning.abort();
  learning = new AbortController();
  const { signal } = learning;
  const before = [...row.childNodes];
  signal.addEventListener("abort", () => fill(row, before));
  fill(row, el("kbd", { class: "waiting" }, t("help.press")));
  const listen = (event) => {
    if (["Control", "Shift", "Alt", "Meta"].includes(event.key)) return;
    event.preventDefault();
    event.stopImmediatePropagation();
    learning.abort();
    if (event.key !== "Escape") assign(action, nameOf(event));
    redraw();
  };
  addEventListener("keydown", listen, { capture: true, signal });
}

/** Give a key to an action; whoever had it loses it. */
export function assign(action, key) {
  for (const other of Object.keys(DEFAULTS)) {
    if (other !== action && keysOf(other).includes(key)) custom[other] = keysOf(other).filter((each) => each !== key);
  }
  custom[action] = [key];
  keepSetting("keys", custom);
  rebuild();
}
