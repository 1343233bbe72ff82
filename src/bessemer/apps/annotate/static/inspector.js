// The right column: labels with their numbers, what is said of the whole image, regions, the chosen one, predictions.

import { button, el, fill, VirtualList } from "./dom.js";
import { withKey } from "./keys.js";
import { editLabels } from "./labels.js";
import { app, colorOf, emit, newId, on } from "./state.js";
import { bounds } from "./shapes.js";
import { t } from "./strings.js";


export class Inspector {
  constructor(view) {
    this.view = view;
    this.active = app.labels[0]?.name ?? null;
    this.labels = el("div", { class: "labels", role: "listbox", "aria-label": t("inspector.labels") });
    this.image = el("div", { class: "block" });
    this.chosen = el("div", { class: "block" });
    this.predictions = el("div", { class: "block" });
    this.count = el("span", { class: "count" });
    this.regions = new VirtualList(26, (index) => this.region(index), { label: t("inspector.regions") });
    this.regions.node.classList.add("regions");
    this.panels = el("div", { class: "inspector-body" },
      section(t("inspector.labels"), this.labels, button("plus", t("labels.edit"), () => editLabels(), "", "quiet small")),
      this.chosen, this.image, this.predictions,
      section(t("inspector.regions"), this.regions.node, this.count, "grow"));
    this.review = el("div", { class: "review", hidden: true });
    this.node = el("aside", { class: "inspector", "aria-label": t("inspector.name") }, this.review, this.panels);
    on("labels", () => { if (!app.labels.some((label) => label.name === this.active)) this.active = app.labels[0]?.name ?? null; this.draw(); });
    on("doc", () => this.draw());
    on("selection", () => this.drawSelection());
    on("edit-label", () => this.labels.querySelector("button")?.focus());
    this.draw();
  }

  get doc() {
    return app.doc;
  }

  /** Number key n: the label of the selection, or of what is drawn next. */
  choose(index) {
    const label = app.labels[index];
    if (!label) return;
    this.active = label.name;
    const chosen = this.doc?.selected() ?? [];
    if (chosen.length) this.doc.replace(chosen.map((annotation) => ({ ...annotation, label: label.name })));
    this.drawLabels();
  }

  draw() {
    this.drawLabels();
    this.drawImage();
    this.drawPredictions();
    this.drawSelection();
  }

  drawLabels() {
    const used = new Map();
    for (const annotation of this.doc?.annotations ?? []) if (annotation.label) used.set(annotation.label, (used.get(annotation.label) ?? 0) + 1);
    fill(this.labels, app.labels.length ? null : el("p", { class: "muted" }, t("labels.none")), app.labels.map((label, index) => {
      const swatch = el("span", { class: "swatch" });
      swatch.style.background = colorOf(label.name);
      return el("button", {
        type: "button", class: label.name === this.active ? "label active" : "label", role: "option", "aria-selected": label.name === this.active ? "true" : "false",
        title: label.name, on: { click: () => this.choose(index) },
      }, index < 10 ? el("kbd", {}, (index + 1) % 10) : el("kbd", { class: "none" }, ""), swatch, el("span", { class: "label-name" }, label.name),
      used.has(label.name) ? el("span", { class: "count" }, used.get(label.name)) : null);
    }));
  }

  /** Scene and captions. What is being typed in, and what says the same as before, is left alone. */
  drawImage() {
    const { doc } = this;
    if (!doc) return;
    const captions = doc.captions();
    const fields = [...this.image.querySelectorAll("textarea")];
    const typing = fields.includes(document.activeElement);
    const shown = fields.map((field) => [field.dataset.id, field.value]);
    const wanted = captions.length ? captions.map(({ id, text = "" }) => [id, text]) : [["", ""]];
    const same = JSON.stringify(shown) === JSON.stringify(wanted);
    if (this.imageOf !== doc || !typing && !same) {
      if (typing) document.activeElement.blur(); // a field of another document: the words that follow are of this one
      this.fillImage(doc, captions);
      if (typing) this.focusCaption();
    }
    const scene = doc.scene();
    for (const segment of this.image.querySelectorAll(".segment")) {
      segment.classList.toggle("on", segment.dataset.scene === scene);
      segment.setAttribute("aria-checked", String(segment.dataset.scene === scene));
    }
  }

  fillImage(doc, captions) {
    this.imageOf = doc;
    fill(this.image, head(t("inspector.image"), button("plus", t("caption.add"), () => this.addCaption(), "", "quiet small")),
      el("div", { class: "segments", role: "radiogroup", "aria-label": t("inspector.scene") }, app.session.scenes.map((name) => el("button", {
        type: "button", role: "radio", class: "segment", data: { scene: name }, disabled: doc.readOnly,
        title: withKey(t(`scene.${name}`), "scene.next"),
        on: { click: () => doc.setScene(name === doc.scene() ? "" : name) },
      }, t(`scene.${name}`)))),
      (captions.length ? captions : [null]).map((caption) => this.captionField(caption)));
  }

  captionField(caption) {
    const field = el("textarea", {
      class: "field caption", rows: 3, placeholder: t("caption.placeholder"), "aria-label": t("caption.name"), value: caption?.text ?? "", maxlength: 100000,
      disabled: this.doc.readOnly, data: { caption: "1" },
      on: {
        input: () => {
          const { doc } = this;
          const id = field.dataset.id || newId();
          const known = doc.byId.get(id);
          field.dataset.id = id;
          const next = known ? doc.annotations.map((each) => (each.id === id ? { ...each, text: field.value } : each)) : [...doc.annotations, { id, text: field.value }];
          const empty = known && !field.value && Object.keys(known).every((key) => ["id", "text", "author", "created", "updated", "source"].includes(key));
          if (empty) field.dataset.id = "";
          doc.change(empty ? doc.annotations.filter((each) => each.id !== id) : next, { merge: `caption ${id}` });
        },
        blur: () => this.drawImage(),
        keydown: (event) => { if (event.key === "Escape") { field.blur(); event.stopPropagation(); } },
      },
    });
    field.dataset.id = caption?.id ?? "";
    return field;
  }

  addCaption() {
    if (this.doc.readOnly) return;
    this.doc.change([...this.doc.annotations, { id: `caption-${newId()}` }]);
    [...this.image.querySelectorAll("textarea")].at(-1)?.focus();
  }

  focusCaption() {
    this.image.querySelector("textarea")?.focus();
  }

  drawSelection() {
    const { doc } = this;
    if (!doc) return;
    const shapes = doc.shapes;
    this.list = shapes;
    this.count.textContent = shapes.length || "";
    this.regions.setCount(shapes.length);
    const chosen = doc.selected();
    if (chosen.length === 1) {
      const place = shapes.indexOf(chosen[0]);
      if (place >= 0 && !this.quiet) this.regions.show(place);
    }
    const shown = chosen.length === 1 ? JSON.stringify([chosen[0].id, chosen[0].label]) : null;
    const fields = () => [...this.chosen.querySelectorAll("input, select")];
    const place = this.shown === shown ? fields().indexOf(document.activeElement) : -1;
    if (place >= 0 && document.activeElement.matches("input[type=text], input[type=number]")) return;
    this.shown = shown;
    if (!chosen.length) fill(this.chosen);
    else if (chosen.length > 1) fill(this.chosen, head(t("inspector.selected", chosen.length)), this.actions());
    else this.drawOne(chosen[0]);
    fields()[place]?.focus({ preventScroll: true }); // the keys go on where they were
  }

  actions() {
    return el("div", { class: "actions" },
      button("copy", withKey(t("key.edit.duplicate"), "edit.duplicate"), () => emit("action", "edit.duplicate")),
      button("eye", withKey(t("key.view.hide"), "view.hide"), () => emit("action", "view.hide")),
      button("trash", withKey(t("key.edit.delete"), "edit.delete"), () => emit("action", "edit.delete"), "", "bad"));
  }

  drawOne(annotation) {
    const { doc } = this;
    const set = (change) => doc.replace([{ ...doc.byId.get(annotation.id), ...change }], `${annotation.id} ${Object.keys(change)}`);
    const known = app.labels.find((label) => label.name === annotation.label);
    const { shape } = annotation;
    fill(this.chosen,
      el("div", { class: "block-head named" }, el("h3", { title: annotation.label }, annotation.label ?? t("labels.unlabelled")), this.actions()),
      shape ? el("div", { class: "facts" }, facts(shape)) : null,
      shape?.kind === "polygon" ? el("div", { class: "actions" },
        button("plus", withKey(t("key.draw.part"), "draw.part"), () => emit("action", "draw.part"), t("polygon.part")),
        button("hole", withKey(t("key.draw.hole"), "draw.hole"), () => emit("action", "draw.hole"), t("polygon.hole"))) : null,
      el("label", { class: "line" }, el("span", {}, t("inspector.text")), el("input", { type: "text", class: "field", value: annotation.text ?? "", disabled: doc.readOnly, maxlength: 10000, on: { input: (event) => set({ text: event.target.value }) } })),
      (known?.attributes ?? []).map((attribute) => this.attribute(attribute, annotation, set)),
      Object.keys(annotation.attributes ?? {}).filter((name) => !known?.attributes?.some((each) => each.name === name))
        .map((name) => el("div", { class: "line" }, el("span", {}, name), el("span", { class: "muted" }, JSON.stringify(annotation.attributes[name]).slice(0, 200)))),
      el("p", { class: "muted small" }, [annotation.author, annotation.model_version && `${t("prediction.from")} ${annotation.model_version}`, annotation.updated?.slice(0, 16).replace("T", " ")].filter(Boolean).join(" · ")));
  }

  attribute(attribute, annotation, set) {
    const { name, kind = "text", options = [] } = attribute;
    const value = (Object.hasOwn(annotation.attributes ?? {}, name) ? annotation.attributes[name] : null) ?? attribute.default ?? (kind === "checkbox" ? false : "");
    const take = (next) => {
      const now = Object.entries(this.doc.byId.get(annotation.id).attributes ?? {});
      const others = now.filter(([each]) => each !== name);
      const all = next === undefined ? others : [...others, [name, next]];
      set({ attributes: all.length ? Object.fromEntries(all) : undefined });
    };
    const common = { class: "field", disabled: this.doc.readOnly, "aria-label": name };
    let field;
    if (kind === "checkbox") field = el("input", { type: "checkbox", checked: value === true, disabled: this.doc.readOnly, on: { change: (event) => take(event.target.checked) } });
    else if (kind === "select") field = el("select", { ...common, on: { change: (event) => take(event.target.value) } }, el("option", { value: "" }, "—"), options.map((option) => el("option", { value: option, selected: option === value }, option)));
    else if (kind === "number") {
      const input = ({ target }) => {
        if (Number.isFinite(target.valueAsNumber)) take(target.valueAsNumber);
        else if (!target.validity.badInput) take(undefined);
      };
      field = el("input", { ...common, type: "number", step: "any", value: String(value), on: { input } });
    }
    else field = el("input", { ...common, type: "text", value: String(value), maxlength: 10000, on: { input: (event) => take(event.target.value) } });
    return el("label", { class: "line" }, el("span", {}, name), field);
  }

  region(index) {
    const annotation = this.list[index];
    const swatch = el("span", { class: "swatch" });
    swatch.style.background = colorOf(annotation.label);
    const on_ = this.doc.selection.has(annotation.id);
    const away = this.doc.hidden.has(annotation.id);
    return el("button", {
      type: "button", class: `row region${on_ ? " current" : ""}${away ? " away" : ""}`, role: "option", "aria-selected": on_ ? "true" : "false", tabIndex: -1, data: { region: annotation.id },
      on: { click: (event) => { this.quiet = true; this.doc.select([annotation.id], { toggle: event.shiftKey || event.ctrlKey }); this.quiet = false; this.view.reveal(bounds(annotation.shape)); } },
    }, swatch, el("span", { class: "row-name" }, annotation.label ?? t("labels.unlabelled"), annotation.text ? ` “${annotation.text.slice(0, 60)}”` : ""),
    el("span", { class: "muted" }, t(`shape.${annotation.shape.kind}`)));
  }

  drawPredictions() {
    const { doc } = this;
    if (!doc?.predictions.length) return fill(this.predictions);
    const open = doc.undecided();
    const rows = open.slice(0, 60).map((each) => {
      const swatch = el("span", { class: "swatch dashed" });
      swatch.style.borderColor = colorOf(each.annotation.label);
      return el("div", { class: "prediction", data: { prediction: each.id } }, swatch,
        el("button", { type: "button", class: "row-name plain", title: each.model_version, on: { click: () => each.annotation.shape && this.view.reveal(bounds(each.annotation.shape)) } },
          each.annotation.label ?? each.annotation.text ?? t("labels.unlabelled"), each.annotation.label && each.annotation.text ? ` “${each.annotation.text.slice(0, 60)}”` : ""),
        el("span", { class: "muted score" }, each.score === null ? "" : each.score.toFixed(2)),
        button("check", withKey(t("prediction.accept"), "prediction.accept"), () => doc.accept(each), "", "quiet small good"),
        button("cross", withKey(t("prediction.reject"), "prediction.reject"), () => doc.reject(each), "", "quiet small bad"));
    });
    const versions = [...new Set(doc.predictions.map((each) => each.model_version))];
    return fill(this.predictions, head(t("inspector.predictions"), el("span", { class: "count" }, open.length),
      open.length > 1 ? button("check", withKey(t("prediction.all"), "prediction.all"), () => doc.acceptAll(), t("prediction.allShort"), "small") : null),
    el("p", { class: "muted small" }, versions.join(", ")), rows, open.length > 60 ? el("p", { class: "muted small" }, t("prediction.more", open.length - 60)) : null);
  }
}

const head = (title, ...more) => el("div", { class: "block-head" }, el("h3", { title }, title), more);

const section = (title, body, more = null, kind = "") => el("section", { class: `block ${kind}` }, head(title, more), body);

function facts(shape) {
  const [left, top, right, bottom] = bounds(shape);
  const round = (value) => Math.round(value * 10) / 10;
  const size = shape.kind === "rotated_box" ? [shape.width, shape.height] : [right - left, bottom - top];
  const angle = shape.kind === "rotated_box" ? ` · ${round(shape.angle)}°` : "";
  const vertices = shape.kind === "polygon" ? ` · ${shape.parts.flat(2).length} ${t("polygon.vertices")}` : "";
  return `${t(`shape.${shape.kind}`)} · ${round(left)}, ${round(top)} · ${round(size[0])} × ${round(size[1])}${angle}${vertices}`;
}
