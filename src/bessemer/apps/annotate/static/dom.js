// Elements made from values. Text becomes text nodes: labels, captions, file names and models' answers are hostile.

const SVG = "http://www.w3.org/2000/svg";
const AS_PROPERTY = new Set(["value", "checked", "disabled", "hidden", "tabIndex", "selected", "open", "readOnly"]);

/** An element. props: attributes; `on` an object of listeners; `data` an object of data-attributes. Children: nodes,
 * text, numbers, arrays; null and false are left out. */
export function el(tag, props = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(props ?? {})) {
    if (value === null || value === undefined || value === false && !AS_PROPERTY.has(name)) continue;
    if (name === "on") for (const [event, handler] of Object.entries(value)) node.addEventListener(event, handler);
    else if (name === "data") Object.assign(node.dataset, value);
    else if (AS_PROPERTY.has(name)) node[name] = value;
    else if (name === "class") node.className = value;
    else if (/^(title|id|type|name|placeholder|for|href|download|min|max|step|rows|role|lang|alt|colspan|maxlength|size|target|autocomplete|spellcheck|scope|aria-[a-z]+)$/.test(name)) {
      node.setAttribute(name, value === true ? "" : String(value));
    } else throw new Error(`no property ${name}`);
  }
  add(node, children);
  return node;
}

function add(node, children) {
  for (const child of children) {
    if (Array.isArray(child)) add(node, child);
    else if (child instanceof Node) node.append(child);
    else if (child !== null && child !== undefined && child !== false) node.append(document.createTextNode(String(child)));
  }
}

/** The element with other contents. */
export function fill(node, ...children) {
  node.replaceChildren();
  add(node, children);
  return node;
}

const ICONS = {
  select: "M3 2l9 5.2-4 1-1.6 4z",
  box: "M2.5 4h11v8h-11z",
  rotated: "M1.8 8.6L9 2.4l5.2 5L7 13.6z",
  polygon: "M8 2l6 4.4-2.3 7H4.3L2 6.4z",
  point: "M8 5.5a2.5 2.5 0 1 0 .01 0zM8 1v3M8 12v3M1 8h3M12 8h3",
  pan: "M8 1.5v13M1.5 8h13M6.3 3.2L8 1.5l1.7 1.7M6.3 12.8L8 14.5l1.7-1.7M3.2 6.3L1.5 8l1.7 1.7M12.8 6.3L14.5 8l-1.7 1.7",
  fit: "M2 6V2h4M10 2h4v4M14 10v4h-4M6 14H2v-4",
  undo: "M6 3L2.5 6.5 6 10M3 6.5h6a4 4 0 0 1 0 8H7",
  redo: "M10 3l3.5 3.5L10 10M13 6.5H7a4 4 0 0 0 0 8h2",
  trash: "M3 4.5h10M6.5 4V2.5h3V4M4.3 4.5l.7 9h6l.7-9",
  eye: "M1.5 8S4 3.5 8 3.5 14.5 8 14.5 8 12 12.5 8 12.5 1.5 8 1.5 8zM8 6.2a1.8 1.8 0 1 0 .01 0z",
  copy: "M5.5 5.5h8v8h-8zM10.5 5.5v-3h-8v8h3",
  check: "M3 8.5l3.2 3.2L13 4.8",
  cross: "M4 4l8 8M12 4l-8 8",
  left: "M10 3L5 8l5 5",
  right: "M6 3l5 5-5 5",
  plus: "M8 3v10M3 8h10",
  help: "M5.5 6a2.5 2.5 0 1 1 3.6 2.2c-.8.4-1.1.9-1.1 1.8M8 12.6v.1",
  history: "M2.5 8a5.5 5.5 0 1 0 1.8-4.1M2.5 2.5v2.4h2.4M8 5v3.2l2.2 1.3",
  contrast: "M8 2a6 6 0 1 0 .01 0zM8 2v12a6 6 0 0 0 0-12",
  hole: "M2 2h12v12H2zM5.5 5.5h5v5h-5z",
};

/** A line icon of 16 x 16. */
export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 16 16");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS(SVG, "path");
  path.setAttribute("d", ICONS[name]);
  svg.append(path);
  return svg;
}

/** A button of an icon and perhaps a word; the title is what it is called for those who do not see it. */
export function button(name, title, handler, word = "", kind = "") {
  return el("button", { type: "button", class: `button ${kind}`, title, "aria-label": title, on: { click: handler } },
    name && icon(name), word && el("span", {}, word));
}

/** A modal dialog with a title and a way out; `close` is its return value. It gives the focus back. */
export function dialog(title, body, actions = [], { wide = false, must = false } = {}) {
  const before = document.activeElement;
  const box = el("dialog", { class: wide ? "dialog wide" : "dialog", "aria-label": title });
  const close = () => {
    must = false;
    box.close();
    if (toasts && box.contains(toasts)) document.body.append(toasts);
    box.remove();
    if (before?.isConnected) before.focus();
  };
  fill(box,
    el("header", {}, el("h2", {}, title), must ? null : button("cross", "Esc", close, "", "quiet")),
    el("div", { class: "dialog-body" }, body),
    actions.length ? el("footer", {}, actions) : null);
  box.addEventListener("cancel", (event) => { event.preventDefault(); if (!must) close(); });
  box.addEventListener("close", () => { if (must && box.isConnected) box.showModal(); });
  box.addEventListener("keydown", (event) => event.stopPropagation());
  document.body.append(box);
  box.showModal();
  if (must) box.querySelector(".primary")?.focus(); // Enter by habit must not throw anything away
  return close;
}

let toasts;

/** A line that goes away by itself; `action` is a word and what it does. */
export function toast(text, action = null, seconds = 5) {
  toasts ??= el("div", { class: "toasts", role: "status", "aria-live": "polite" });
  const front = [...document.querySelectorAll("dialog[open]")].at(-1) ?? document.body; // it covers all that is outside
  if (toasts.parentNode !== front) front.append(toasts);
  const line = el("div", { class: "toast" }, el("span", {}, text),
    action && el("button", { type: "button", class: "button", on: { click: () => { line.remove(); action[1](); } } }, action[0]));
  toasts.append(line);
  while (toasts.children.length > 3) toasts.firstChild.remove();
  setTimeout(() => line.remove(), seconds * 1000);
}

/** A list of which only the rows in sight are elements. Every row is `height` pixels high. */
export class VirtualList {
  constructor(height, draw, { label = "" } = {}) {
    this.height = height;
    this.draw = draw;
    this.count = 0;
    this.inner = el("div", { class: "rows" });
    this.node = el("div", { class: "virtual", role: "listbox", "aria-label": label, tabIndex: 0, on: { scroll: () => this.refresh() } }, this.inner);
    new ResizeObserver(() => this.refresh()).observe(this.node);
  }

  setCount(count) {
    this.count = count;
    this.inner.style.height = `${count * this.height}px`;
    this.refresh();
  }

  refresh() {
    const first = Math.max(0, Math.floor(this.node.scrollTop / this.height) - 3);
    const last = Math.min(this.count, Math.ceil((this.node.scrollTop + this.node.clientHeight) / this.height) + 3);
    const rows = [];
    for (let index = first; index < last; index += 1) {
      const row = this.draw(index);
      row.style.top = `${index * this.height}px`;
      row.style.height = `${this.height}px`;
      rows.push(row);
    }
    this.inner.replaceChildren(...rows);
  }

  show(index) {
    const top = index * this.height;
    if (top < this.node.scrollTop) this.node.scrollTop = top;
    else if (top + this.height > this.node.scrollTop + this.node.clientHeight) {
      this.node.scrollTop = top + this.height - this.node.clientHeight;
    }
    this.refresh();
  }
}
