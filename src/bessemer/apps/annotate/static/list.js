// The left column: images, searched and filtered, with the state of each; progress above them.

import { get } from "./api.js";
import { el, fill, VirtualList } from "./dom.js";
import { app, emit, keepSetting, on, setting } from "./state.js";
import { t } from "./strings.js";

const PAGE = 200;
const STATES = ["todo", "doing", "submitted", "accepted", "rejected"];

/** Why an image waits in the queue, the weightiest reason first. */
function reasons(image) {
  return Object.entries(image.reasons).filter(([, weight]) => weight > 0).sort((a, b) => b[1] - a[1])
    .map(([name, weight]) => `${t(`reason.${name}`)} ${weight.toFixed(2)}`);
}

/** The small picture of an image; made once, as long as the page lives. */
function thumbnail(id) {
  if (!thumbnails.has(id)) {
    const node = el("img", { class: "thumb", alt: "" });
    node.loading = "lazy";
    node.decoding = "async";
    node.src = `/api/images/${id}/thumbnail`;
    node.addEventListener("error", () => thumbnails.delete(id));
    thumbnails.set(id, node);
    if (thumbnails.size > 400) thumbnails.delete(thumbnails.keys().next().value);
  }
  return thumbnails.get(id);
}

const thumbnails = new Map();

export class ImageList {
  constructor() {
    this.filter = { text: "", state: "", label: "", scene: "", order: setting("order", "id") };
    this.total = 0;
    this.pages = new Map(); // page number -> rows, or a promise of them
    this.generation = 0;
    this.rows = new VirtualList(46, (index) => this.row(index), { label: t("list.images") });
    this.bar = el("div", { class: "meter" });
    this.summary = el("div", { class: "summary" });
    this.node = el("aside", { class: "list" }, this.head(), this.rows.node);
    on("saved", ({ image, version, state }) => this.update(image, { version, state }));
    on("labels", () => this.options());
  }

  head() {
    let wait;
    this.search = el("input", {
      type: "search", class: "field", placeholder: t("list.search"), "aria-label": t("list.search"), autocomplete: "off", maxlength: 200,
      on: {
        input: () => {
          clearTimeout(wait);
          wait = setTimeout(() => this.set("text", this.search.value), 180);
        },
        keydown: (event) => { if (event.key === "Escape" || event.key === "Enter") { this.search.blur(); event.stopPropagation(); } },
      },
    });
    this.selects = {
      state: this.choice("state", t("list.anyState"), STATES.map((state) => [state, t(`state.${state}`)])),
      label: this.choice("label", t("list.anyLabel"), []),
      scene: this.choice("scene", t("list.anyScene"), app.session.scenes.map((scene) => [scene, t(`scene.${scene}`)])),
      order: this.choice("order", null, ["id", "name", "queue", "score", "margin", "updated"].map((order) => [order, t(`order.${order}`)])),
    };
    this.options();
    return el("div", { class: "list-head" }, this.summary, this.bar, this.search, el("div", { class: "filters" }, Object.values(this.selects)));
  }

  choice(name, any, options) {
    const node = el("select", { class: "field", "aria-label": t(`list.${name}`), on: { change: () => this.set(name, node.value) } },
      any === null ? null : el("option", { value: "" }, any),
      options.map(([value, text]) => el("option", { value, selected: this.filter[name] === value }, text)));
    return node;
  }

  options() {
    fill(this.selects.label, el("option", { value: "" }, t("list.anyLabel")),
      app.labels.map((label) => el("option", { value: label.name, selected: label.name === this.filter.label }, label.name)));
  }

  set(name, value) {
    this.filter[name] = value;
    if (name === "order") keepSetting("order", value);
    this.reload();
  }

  parameters(page) {
    const everybody = app.reviewing ? "1" : "";
    return { ...this.filter, everybody, offset: page * PAGE, limit: PAGE };
  }

  async reload() {
    this.generation += 1;
    this.pages.clear();
    await this.load(0);
    this.progress();
  }

  async load(page) {
    if (this.pages.has(page)) return this.pages.get(page);
    const { generation } = this;
    const coming = get("/api/images", this.parameters(page)).then((found) => {
      if (generation !== this.generation) return [];
      this.pages.set(page, found.images);
      this.total = found.total;
      this.rows.setCount(found.total);
      emit("list");
      return found.images;
    }, (error) => {
      this.pages.delete(page);
      emit("failed", error);
      return [];
    });
    this.pages.set(page, coming);
    return coming;
  }

  at(index) {
    const rows = this.pages.get(Math.floor(index / PAGE));
    return Array.isArray(rows) ? rows[index % PAGE] : undefined;
  }

  async fetchAt(index) {
    if (index < 0 || index >= this.total) return undefined;
    const rows = await this.load(Math.floor(index / PAGE));
    return rows[index % PAGE];
  }

  indexOf(id) {
    for (const [page, rows] of this.pages) {
      const place = Array.isArray(rows) ? rows.findIndex((row) => row.id === id) : -1;
      if (place >= 0) return page * PAGE + place;
    }
    return -1;
  }

  update(id, change) {
    const index = this.indexOf(id);
    if (index < 0) return;
    const row = this.at(index);
    const before = row.state;
    Object.assign(row, change);
    if (app.doc?.image.id === id && !app.reviewing) row.shapes = app.doc.shapes.length;
    this.rows.refresh();
    if (before !== row.state) this.progress();
  }

  row(index) {
    const image = this.at(index);
    if (!image) {
      this.load(Math.floor(index / PAGE));
      return el("div", { class: "row" }, "…");
    }
    const current = app.doc?.image.id === image.id;
    return el("button", {
      type: "button", class: current ? "row current" : "row", role: "option", "aria-selected": current ? "true" : "false", tabIndex: -1, title: [image.name, ...reasons(image)].join("\n"),
      data: { image: image.id }, on: { click: () => emit("open", image.id) },
    },
    thumbnail(image.id),
    el("span", { class: "row-text" }, el("span", { class: "row-name" }, image.name),
      el("span", { class: "row-facts" }, el("span", { class: `dot ${image.state}`, title: t(`state.${image.state}`) }), t(`state.${image.state}`),
        image.shapes ? ` · ${image.shapes}` : "", image.score === null ? "" : ` · ${image.score.toFixed(2)}`,
        reasons(image).slice(0, 1).map((reason) => el("span", { class: "reason" }, reason)))));
  }

  async progress() {
    try {
      const found = await get("/api/progress");
      const own = found.documents[app.session.annotator] ?? {};
      const done = (own.submitted ?? 0) + (own.accepted ?? 0);
      const parts = [["accepted", own.accepted ?? 0], ["submitted", own.submitted ?? 0], ["doing", own.doing ?? 0], ["rejected", own.rejected ?? 0]];
      fill(this.summary, el("strong", {}, `${done} / ${found.images}`), ` ${t("list.done")}`, el("span", { class: "right" }, t("list.found", this.total)));
      fill(this.bar, parts.map(([state, count]) => {
        const piece = el("span", { class: `piece ${state}`, title: `${t(`state.${state}`)}: ${count}` });
        piece.style.width = `${(100 * count) / Math.max(1, found.images)}%`;
        return piece;
      }));
    } catch (error) {
      emit("failed", error);
    }
  }
}
