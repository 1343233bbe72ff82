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

const whose = () => (app.reviewing ? { everybody: "1" } : {});

export class ImageList {
  constructor() {
    this.filter = { text: "", state: "", label: "", scene: "", order: setting("order", "id") };
    this.ids = []; // of what was found when the filters were asked about
    this.places = new Map(); // id -> its place among them
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

  get total() {
    return this.ids.length;
  }

  /** Ask what the filters mean now. What leaves them while one works through the list keeps its place in it: if the
   * others moved up, as many would never be shown. */
  async reload() {
    this.generation += 1;
    this.asked = this.ask(this.generation);
    await this.asked;
    this.progress();
  }

  async ask(generation) {
    try {
      const found = await get("/api/images", { ...this.filter, ...whose(), all: "1", limit: PAGE });
      if (generation !== this.generation) return this.asked; // the filters are others by now
      this.ids = found.ids;
      this.places = new Map(found.ids.map((id, place) => [id, place]));
      this.pages = new Map([[0, found.images]]);
      this.rows.setCount(this.total);
    } catch (error) {
      emit("failed", error);
    }
    return undefined;
  }

  async load(page) {
    const { pages } = this;
    if (pages.has(page)) return pages.get(page);
    const ids = this.ids.slice(page * PAGE, (page + 1) * PAGE).join(" ");
    const coming = get("/api/images", { ids, ...whose(), limit: PAGE }).then(({ images }) => {
      pages.set(page, images);
      if (pages === this.pages) this.rows.refresh();
      return images;
    }, (error) => {
      pages.delete(page);
      emit("failed", error);
      return [];
    });
    pages.set(page, coming);
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
    return this.places.get(id) ?? -1;
  }

  update(id, change) {
    const row = this.at(this.indexOf(id));
    if (!row) return;
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
