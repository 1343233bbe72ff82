// The page on which images are drawn on and described: list, canvas, inspector, and the actions of its keys.

import { get, post } from "./api.js";
import { showConflict } from "./conflict.js";
import { Doc } from "./doc.js";
import { button, el, fill, toast } from "./dom.js";
import { showHistory } from "./history.js";
import { Inspector } from "./inspector.js";
import { withKey } from "./keys.js";
import { ImageList } from "./list.js";
import { answerOf, rebase, resolve, settle, waiting } from "./outbox.js";
import { prefetch } from "./picture.js";
import { Review } from "./review.js";
import { bounds, moved } from "./shapes.js";
import { app, emit, keepSetting, on, setting } from "./state.js";
import { t } from "./strings.js";
import { Tools, TOOLS } from "./tools.js";
import { View } from "./view.js";

const NEUTRAL = { brightness: 1, contrast: 1, invert: false };
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

export class Drawing {
  constructor() {
    this.host = el("div", { class: "canvas", tabIndex: 0, role: "application", "aria-label": t("canvas.name") });
    this.view = new View(this.host);
    this.list = new ImageList();
    this.inspector = new Inspector(this.view);
    this.tools = new Tools(this.view, { label: () => this.inspector.active, onDrawn: () => this.host.focus() });
    this.review = new Review(this.view, this.inspector.review, () => this.step(1));
    this.light = { ...NEUTRAL, ...setting("light", {}) };
    this.submitted = []; // images submitted lately, for undo
    this.conflicts = new Map(); // image -> its conflict, while another one is being shown
    this.notice = el("div", { class: "notice", hidden: true });
    this.bar = el("div", { class: "tool-bar", role: "toolbar", "aria-label": t("canvas.tools") });
    this.foot = el("div", { class: "canvas-foot" });
    this.title = el("div", { class: "canvas-head" });
    this.node = el("div", { class: "draw-view" }, this.list.node,
      el("div", { class: "centre" }, this.title, this.notice, el("div", { class: "stage" }, this.bar, this.host), this.foot), this.inspector.node);
    this.drawBar();
    this.drawFoot();
    this.shine();
    on("open", (id) => this.open(id));
    on("tool", () => this.drawBar());
    on("doc", () => { this.view.redraw(); this.drawTitle(); });
    on("selection", () => this.view.redraw("shapes", "active"));
    on("labels", () => this.view.redraw());
    on("action", (action) => this.act(action));
    on("cursor", ([x, y]) => { this.where.textContent = `${Math.round(x)}, ${Math.round(y)}`; });
    on("drawn", () => { this.zoom.textContent = `${Math.round(this.view.scale * 100)} %`; });
    on("saved", (saved) => { if (app.doc?.image.id === saved.image) { app.doc.saved(saved); this.drawTitle(); } });
    on("conflict", (conflict) => this.conflict(conflict));
    on("picture-error", ({ id, message }) => { if (app.doc?.image.id === id) this.tell(message); });
    on("reviewed", ({ image, state }) => this.list.update(image, { state }));
  }

  async start() {
    await this.list.reload();
    const wanted = setting(`image.${app.session.project}`, 0);
    const first = this.list.indexOf(wanted) >= 0 ? wanted : (await this.list.fetchAt(0))?.id;
    if (first) await this.open(first);
    else this.tell(t("list.empty"));
  }

  /** Show an image; whether it is shown now (not when the server is away, or another one was asked for since). */
  async open(id, keepView = false) {
    const began = performance.now();
    this.opening = id;
    let found;
    let before;
    try {
      do { // what was read before a save, and comes after its answer, does not stand there any more
        before = answerOf(id);
        found = await get(`/api/images/${id}`);
      } while (answerOf(id) !== before && this.opening === id);
    } catch (error) {
      emit("failed", error);
      return false;
    }
    if (this.opening !== id) return false;
    const late = waiting(id);
    this.tools.leave(); // what was begun belongs to the image that goes
    app.doc = new Doc(found, late);
    if (late) app.doc.version = late.base;
    app.doc.readOnly = app.reviewing || !app.session.annotates;
    this.tell("");
    this.view.reviewed = null;
    this.view.override = null;
    this.view.open(app.doc, keepView);
    this.drawTitle();
    emit("doc");
    keepSetting(`image.${app.session.project}`, id);
    const place = this.list.indexOf(id);
    if (place >= 0) this.list.rows.show(place);
    if (app.reviewing) await this.review.open(app.doc.image).catch((error) => emit("failed", error));
    const next = await Promise.all([1, 2].map((step) => this.list.fetchAt(place + step)));
    prefetch(next.filter(Boolean).map((row) => row.id));
    this.lastOpen = performance.now() - began;
    return app.doc.image.id === id;
  }

  tell(text) {
    this.notice.hidden = !text;
    fill(this.notice, text);
  }

  drawTitle() {
    const { doc } = app;
    if (!doc) return;
    const { image } = doc;
    const place = this.list.indexOf(image.id);
    const draws = app.session.annotates && !app.reviewing;
    const state = doc.state === "rejected" || doc.comment ? el("span", { class: "chip remark", title: doc.comment }, `${doc.reviewer}: ${doc.comment || t("state.rejected")}`) : null;
    fill(this.title,
      button("left", withKey(t("key.image.previous"), "image.previous"), () => this.act("image.previous"), "", "quiet"),
      button("right", withKey(t("key.image.next"), "image.next"), () => this.act("image.next"), "", "quiet"),
      el("span", { class: "image-name", title: image.name }, image.name), el("span", { class: "muted nowrap" }, `${image.width} × ${image.height}`, place >= 0 ? ` · ${place + 1} / ${this.list.total}` : ""),
      app.reviewing ? null : [el("span", { class: "state" }, el("span", { class: `dot ${doc.state}` }), t(`state.${doc.state}`)), state],
      doc.conflicts && !app.reviewing ? el("span", { class: "chip" }, t("history.lateCount", doc.conflicts)) : null,
      el("span", { class: "push" }),
      draws ? button("undo", withKey(t("key.edit.undo"), "edit.undo"), () => this.act("edit.undo"), "", "quiet") : null,
      draws ? button("redo", withKey(t("key.edit.redo"), "edit.redo"), () => this.act("edit.redo"), "", "quiet") : null,
      app.reviewing ? null : button("history", withKey(t("history.title"), "history.show"), () => this.act("history.show"), "", "quiet"),
      draws ? button("check", withKey(t("key.image.submit"), "image.submit"), () => this.act("image.submit"), t("submit"), "primary") : null);
  }

  drawBar() {
    const kinds = app.reviewing || !app.session.annotates ? ["select"] : TOOLS;
    fill(this.bar, kinds.map((tool) => {
      const node = button(tool, withKey(t(`key.tool.${tool}`), `tool.${tool}`), () => this.tools.choose(tool), "", this.tools.tool === tool ? "tool on" : "tool");
      node.setAttribute("aria-pressed", String(this.tools.tool === tool));
      return node;
    }), el("span", { class: "gap" }),
    button("fit", withKey(t("key.view.fit"), "view.fit"), () => this.act("view.fit"), "", "tool"),
    el("button", { type: "button", class: "button tool", title: withKey(t("key.view.full"), "view.full"), on: { click: () => this.act("view.full") } }, "1:1"));
    this.host.dataset.tool = this.tools.tool;
  }

  drawFoot() {
    const slider = (name) => el("label", { class: "slider", title: t(`light.${name}`) }, el("span", {}, t(`light.${name}`)), el("input", {
      type: "range", min: 0.2, max: 4, step: 0.05, value: String(this.light[name]), "aria-label": t(`light.${name}`), data: { light: name },
      on: { input: (event) => { this.light[name] = Number(event.target.value); this.shine(); }, keydown: (event) => event.stopPropagation() },
    }));
    this.where = el("span", { class: "muted nowrap where" });
    this.zoom = el("span", { class: "muted nowrap zoom" });
    this.invert = button("contrast", withKey(t("key.view.invert"), "view.invert"), () => this.act("view.invert"), t("light.invert"), "small");
    fill(this.foot, this.zoom, this.where, el("span", { class: "push" }), slider("brightness"), slider("contrast"), this.invert,
      button("undo", withKey(t("key.view.reset"), "view.reset"), () => this.act("view.reset"), "", "quiet small"));
  }

  shine() {
    const { brightness, contrast, invert } = this.light;
    this.view.under.style.filter = `brightness(${brightness}) contrast(${contrast}) invert(${invert ? 1 : 0})`;
    for (const input of this.foot.querySelectorAll("input")) input.value = String(this.light[input.dataset.light]);
    this.invert.classList.toggle("on", invert);
    keepSetting("light", this.light);
  }

  lighten(name, factor) {
    this.light[name] = Math.min(4, Math.max(0.2, this.light[name] * factor));
    this.shine();
  }

  async step(by) {
    const place = this.list.indexOf(app.doc?.image.id);
    const row = await this.list.fetchAt(place < 0 ? 0 : place + by);
    if (row) await this.open(row.id, true);
    else toast(t("list.end"));
  }

  /** One thing at a time: a key that is pressed twice does not reach the image that comes next. */
  async alone(work) {
    if (this.busy) return;
    this.busy = true;
    try {
      await work();
    } catch (error) {
      emit("failed", error);
    } finally {
      this.busy = false;
    }
  }

  async submit() {
    const { doc } = app;
    if (!doc || doc.readOnly) return;
    const { id, name } = doc.image;
    try {
      if (!doc.version && !waiting(id)) {
        const nothing = { version: 0, annotations: [] }; // nothing to see is an answer
        const saved = await post(`/api/images/${id}/save`, nothing);
        doc.saved(saved);
        rebase(id, saved);
      }
      const version = await settle(id, doc.version);
      if (!version) {
        toast(t("submit.later"));
        return;
      }
      const answer = await post(`/api/images/${id}/submit`, { version });
      doc.saved(answer);
      emit("saved", { image: id, ...answer });
      this.submitted.push(id);
      toast(t("submit.done", name), [t("key.edit.undo"), () => this.alone(() => this.unsubmit(id))]);
      if (app.doc.image.id === id) await this.step(1); // else somebody is elsewhere already
    } catch (error) {
      if (error.status !== 409) throw error;
      const yours = { base: doc.version, annotations: doc.annotations };
      this.conflict({ image: id, yours, current: error.body.conflict.current });
    }
  }

  /** Take the submission of an image back. */
  async unsubmit(id) {
    if (app.doc?.image.id !== id && !(await this.open(id))) return;
    const { doc } = app;
    const answer = await post(`/api/images/${id}/reopen`, { version: doc.version });
    this.submitted = this.submitted.filter((each) => each !== id);
    doc.saved(answer);
    rebase(id, answer);
    emit("saved", { image: id, ...answer });
    if (answer.state === "doing") toast(t("submit.undone"));
    else toast(t("submit.judged", doc.image.name, t(`state.${answer.state}`)));
  }

  /** Conflicts are shown one after the other, whatever image is open. */
  async conflict(news) {
    this.conflicts.set(news.image, news);
    if (this.deciding) return;
    this.deciding = true;
    for (const [image, each] of this.conflicts) {
      this.conflicts.delete(image);
      await this.decide(each).catch((error) => {
        emit("failed", error);
        setTimeout(() => this.conflict(each), 10000);
      });
    }
    this.deciding = false;
  }

  async decide({ image: id, yours, current }) {
    const open = () => (app.doc?.image.id === id ? app.doc : null);
    const image = open()?.image ?? (await get(`/api/images/${id}`)).image;
    const newest = { ...yours, annotations: waiting(id)?.annotations ?? yours.annotations };
    const annotations = await new Promise((done) => showConflict({ image, yours: newest, current }, done));
    resolve(id, current.version, annotations);
    if (annotations !== null) open()?.restart(annotations, current);
    else if (open()) await this.open(id, true);
  }

  async copyPrevious() {
    const { doc } = app;
    const place = this.list.indexOf(doc.image.id);
    const before = await this.list.fetchAt(place - 1);
    if (!before || doc.readOnly) {
      toast(t("copy.none"));
      return;
    }
    const { document } = await get(`/api/images/${before.id}`);
    const shapes = document.annotations.filter((each) => each.shape && (each.shape.kind !== "mask" || each.shape.width === doc.image.width && each.shape.height === doc.image.height));
    const bare = shapes.map(({ label, shape, text, attributes }) => ({ shape, ...(label && { label }), ...(text && { text }), ...(attributes && { attributes }) }));
    if (bare.length) doc.add(bare);
    toast(t("copy.done", bare.length));
  }

  async setReviewing(reviewing) {
    app.reviewing = reviewing;
    this.list.filter.state = reviewing ? "submitted" : "";
    this.list.selects.state.value = this.list.filter.state;
    this.tools.choose("select");
    document.body.classList.toggle("reviewing", reviewing);
    if (!reviewing) this.review.close();
    await this.list.reload();
    const first = reviewing ? (await this.list.fetchAt(0))?.id ?? app.doc?.image.id : app.doc?.image.id;
    if (first) await this.open(first);
  }

  cycle(step) {
    const { shapes, selection } = app.doc;
    if (!shapes.length) return;
    const now = shapes.findIndex((annotation) => selection.has(annotation.id));
    const next = shapes[(now + step + shapes.length) % shapes.length];
    app.doc.select([next.id]);
    this.view.reveal(bounds(next.shape));
  }

  hide() {
    const { doc } = app;
    const ids = doc.selection.size ? [...doc.selection] : [];
    if (!ids.length) this.view.shown.shapes = !this.view.shown.shapes;
    for (const id of ids) if (doc.hidden.has(id)) doc.hidden.delete(id); else doc.hidden.add(id);
    if (ids.length) doc.select([]);
    this.view.redraw();
    this.inspector.drawSelection();
  }

  /** Number keys choose labels, arrows move; true when the key did something. */
  key(event, action) {
    if (!app.doc) return false;
    const plain = !event.ctrlKey && !event.metaKey;
    if (plain && !event.altKey && !event.shiftKey && /^[0-9]$/.test(event.key)) {
      if (!app.doc.readOnly) this.inspector.choose((Number(event.key) + 9) % 10);
      return true;
    }
    if (plain && ARROWS[event.key] && !(event.target instanceof HTMLSelectElement)) {
      if (this.tools.arrow(ARROWS[event.key], { shift: event.shiftKey, alt: event.altKey })) return true;
      if (!event.shiftKey && !event.altKey && (event.key === "ArrowDown" || event.key === "ArrowUp")) {
        this.step(event.key === "ArrowDown" ? 1 : -1);
        return true;
      }
      return event.altKey; // else the browser would leave the page
    }
    if (!action) return false;
    if (action === "draw.place" && event.target instanceof HTMLButtonElement) return false;
    this.act(action, event.repeat);
    return true;
  }

  /** Do what a key or a button stands for; a key that is held down (`again`) goes no further than this image. */
  act(action, again = false) {
    const { doc } = app;
    const { tools, view, inspector } = this;
    if (!doc) return;
    const edits = !doc.readOnly;
    const open = () => doc.undecided();
    const scenes = ["", ...app.session.scenes];
    const actions = {
      "draw.place": () => tools.enter(), "draw.close": () => tools.close(),
      "draw.cancel": () => { if (tools.points.length) tools.cancel(); else if (tools.tool !== "select") tools.choose("select"); else doc.select([]); },
      "draw.part": () => tools.chooseRing(false), "draw.hole": () => tools.chooseRing(true),
      "edit.undo": () => {
        const last = app.reviewing ? null : this.submitted.at(-1); // a reviewer's undo takes no work back
        if (!tools.unplace() && !doc.undo() && !again && last) this.alone(() => this.unsubmit(last));
      }, "edit.redo": () => doc.redo(),
      "edit.delete": () => tools.delete(),
      "edit.duplicate": () => edits && doc.selection.size && doc.add(doc.selected().map((each) => shifted(each))),
      "edit.copyPrevious": () => this.copyPrevious().catch((error) => emit("failed", error)),
      "edit.selectAll": () => doc.select(doc.shapes.map((each) => each.id)),
      "select.none": () => doc.select([]), "select.next": () => this.cycle(1), "select.previous": () => this.cycle(-1),
      "view.hide": () => this.hide(), "vertex.next": () => tools.stepVertex(1), "vertex.previous": () => tools.stepVertex(-1), "vertex.insert": () => tools.insertVertex(),
      "label.last": () => edits && doc.selection.size && inspector.choose(app.labels.findIndex((label) => label.name === inspector.active)),
      "caption.focus": () => inspector.focusCaption(),
      "scene.next": () => edits && doc.setScene(scenes[(scenes.indexOf(doc.scene()) + 1) % scenes.length]),
      "prediction.accept": () => (app.reviewing ? this.review.judge("accepted") : edits && open()[0] && doc.accept(open()[0])),
      "prediction.reject": () => (app.reviewing ? this.review.judge("rejected") : edits && open()[0] && doc.reject(open()[0])),
      "prediction.all": () => edits && doc.acceptAll(),
      "prediction.next": () => { const [first] = open(); if (app.reviewing) this.review.step(1); else if (first?.annotation.shape) view.reveal(bounds(first.annotation.shape)); },
      "image.submit": () => this.alone(() => this.submit()), "image.skip": () => this.step(1), "image.previous": () => this.step(-1), "image.next": () => this.step(1),
      "search.focus": () => this.list.search.focus(),
      "history.show": () => showHistory(doc, () => this.open(doc.image.id, true), (late) => doc.add(late.map(({ id, ...rest }) => rest))).catch((error) => emit("failed", error)),
      "view.fit": () => view.fit(), "view.full": () => view.zoomTo(1), "view.in": () => view.zoomTo(view.scale * 1.25), "view.out": () => view.zoomTo(view.scale / 1.25),
      "view.invert": () => { this.light.invert = !this.light.invert; this.shine(); },
      "view.darker": () => this.lighten("brightness", 1 / 1.1), "view.brighter": () => this.lighten("brightness", 1.1),
      "view.flatter": () => this.lighten("contrast", 1 / 1.1), "view.steeper": () => this.lighten("contrast", 1.1),
      "view.reset": () => { this.light = { ...NEUTRAL }; this.shine(); },
      "view.predictions": () => { view.shown.predictions = !view.shown.predictions; view.redraw(); },
    };
    for (const tool of TOOLS) actions[`tool.${tool}`] = () => (edits || tool === "select") && tools.choose(tool);
    actions[action]?.();
  }
}

/** A copy a little to the right and below. */
function shifted(annotation) {
  const { id, author, created, updated, ...rest } = annotation;
  return rest.shape ? { ...rest, shape: moved(rest.shape, 8, 8) } : rest;
}
