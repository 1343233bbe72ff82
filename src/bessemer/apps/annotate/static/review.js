// Review: everybody's documents of an image, one after the other, accepted or rejected with a comment.

import { get, post } from "./api.js";
import { button, el, fill, toast } from "./dom.js";
import { withKey } from "./keys.js";
import { app, colorOf, emit } from "./state.js";
import { t } from "./strings.js";

export class Review {
  constructor(view, node, next) {
    this.view = view;
    this.node = node;
    this.next = next; // shows the next image
    this.comments = new Map(); // image and annotator -> what was typed and not sent yet
    this.documents = [];
    this.place = 0;
  }

  /** Show the documents of an image. */
  async open(image) {
    const { documents } = await get(`/api/images/${image.id}/documents`);
    if (app.doc?.image.id !== image.id) return;
    this.image = image;
    this.documents = documents;
    const due = documents.findIndex((document) => document.state === "submitted");
    this.place = Math.max(0, due);
    this.draw();
  }

  close() {
    this.node.hidden = true;
    this.view.reviewed = null;
    this.view.redraw();
  }

  keyOf(document) {
    return `${this.image.id} ${document.annotator}`;
  }

  get current() {
    return this.documents[this.place];
  }

  step(by) {
    if (!this.documents.length) return;
    this.place = (this.place + by + this.documents.length) % this.documents.length;
    this.draw();
  }

  draw() {
    this.node.hidden = false;
    const { current } = this;
    this.view.reviewed = current?.annotations ?? [];
    this.view.redraw();
    if (!current) {
      fill(this.node, el("p", { class: "muted" }, t("review.nothing")));
      return;
    }
    this.comment = el("textarea", {
      class: "field", rows: 3, placeholder: t("review.comment"), "aria-label": t("review.comment"), maxlength: 10000,
      value: this.comments.get(this.keyOf(current)) ?? current.comment,
      on: {
        input: () => this.comments.set(this.keyOf(current), this.comment.value),
        keydown: (event) => { if (event.key === "Escape") { this.comment.blur(); event.stopPropagation(); } },
      },
    });
    const whole = current.annotations.filter((annotation) => !annotation.shape);
    fill(this.node,
      el("div", { class: "tabs", role: "tablist" }, this.documents.map((document, place) => el("button", {
        type: "button", role: "tab", class: place === this.place ? "tab on" : "tab", "aria-selected": place === this.place ? "true" : "false", on: { click: () => { this.place = place; this.draw(); } },
      }, el("span", { class: `dot ${document.state}` }), document.annotator))),
      el("p", {}, t(`state.${current.state}`), ` · ${t("history.version")} ${current.version} · `, new Date(current.updated).toLocaleString()),
      whole.map((annotation) => el("p", { class: "said" }, annotation.scene ? el("span", { class: "chip" }, t(`scene.${annotation.scene}`)) : null, annotation.label ? el("span", { class: "chip" }, annotation.label) : null, annotation.text ?? "")),
      el("div", { class: "said-shapes" }, counted(current.annotations).map(([label, count]) => {
        const swatch = el("span", { class: "swatch" });
        swatch.style.background = colorOf(label);
        return el("span", { class: "chip" }, swatch, label ?? t("labels.unlabelled"), ` × ${count}`);
      })),
      this.comment,
      el("div", { class: "actions" },
        button("check", withKey(t("review.accept"), "prediction.accept"), () => this.judge("accepted"), t("review.accept"), "good"),
        button("cross", withKey(t("review.reject"), "prediction.reject"), () => this.judge("rejected"), t("review.reject"), "bad")),
      current.reviews.map((review) => el("p", { class: "muted small" }, `${review.reviewer}: ${t(`state.${review.verdict}`)} (${review.version}) ${review.comment}`)));
  }

  /** Accept or reject what is shown, then the next one that waits; one verdict at a time. */
  async judge(verdict) {
    const { current, image } = this;
    if (this.busy || !current || app.doc?.image.id !== image.id) return;
    if (!["submitted", "accepted", "rejected"].includes(current.state)) {
      toast(t("review.notSubmitted"));
      return;
    }
    this.busy = true;
    try {
      await this.send(current, image, verdict);
    } catch (error) {
      toast(error.status === 409 ? t("review.changed") : error.message);
      await this.open(image).catch((failed) => emit("failed", failed));
    } finally {
      this.busy = false;
    }
  }

  async send(current, image, verdict) {
    const body = { annotator: current.annotator, version: current.version, verdict, comment: this.comment.value };
    await post(`/api/images/${image.id}/review`, body);
    this.comments.delete(this.keyOf(current));
    current.state = verdict;
    current.comment = body.comment;
    emit("reviewed", { image: image.id, state: verdict });
    const due = this.documents.findIndex((document) => document.state === "submitted");
    if (due >= 0) {
      this.place = due;
      this.draw();
    } else {
      toast(t(`review.${verdict}`, current.annotator));
      await this.next();
    }
  }
}

function counted(annotations) {
  const counts = new Map();
  for (const annotation of annotations) if (annotation.shape) counts.set(annotation.label ?? null, (counts.get(annotation.label ?? null) ?? 0) + 1);
  return [...counts].sort((a, b) => b[1] - a[1]);
}
