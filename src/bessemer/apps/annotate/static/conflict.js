// Two versions of one document: both are shown, and every way out keeps both. What is not chosen stays in the history
// of the project.

import { button, dialog, el } from "./dom.js";
import { compare, union } from "./doc.js";
import { picture } from "./api.js";
import { bounds, corners } from "./shapes.js";
import { colorOf } from "./state.js";
import { t } from "./strings.js";

/** Show a conflict; `done(annotations or null)`: what goes on top of what stands there, null for nothing. */
export function showConflict({ image, yours, current }, done) {
  const { onlyYours, onlyTheirs, changed } = compare(yours.annotations, current.annotations);
  const marked = new Set([...onlyYours, ...onlyTheirs, ...changed.flat()]);
  const choose = (annotations) => {
    close();
    done(annotations);
  };
  const body = el("div", { class: "conflict" },
    el("p", {}, t("conflict.intro")), el("p", { class: "muted" }, image.name),
    el("div", { class: "sides" },
      side(t("conflict.yours", yours.base), image, yours.annotations, marked),
      side(t("conflict.theirs", current.version), image, current.annotations, marked)),
    el("table", { class: "table differences" },
      el("thead", {}, el("tr", {}, el("th", {}, ""), el("th", {}, t("conflict.here")), el("th", {}, t("conflict.there")))),
      el("tbody", {},
        onlyYours.map((each) => el("tr", {}, el("td", {}, t("conflict.onlyYours")), el("td", {}, said(each)), el("td", {}, "—"))),
        onlyTheirs.map((each) => el("tr", {}, el("td", {}, t("conflict.onlyTheirs")), el("td", {}, "—"), el("td", {}, said(each)))),
        changed.map(([mine, theirs]) => el("tr", {}, el("td", {}, t("conflict.changed")), el("td", {}, said(mine)), el("td", {}, said(theirs)))))));
  const close = dialog(t("conflict.title"), body, [
    button("", t("conflict.takeTheirs"), () => choose(null), t("conflict.takeTheirs")),
    button("", t("conflict.takeYours"), () => choose(yours.annotations), t("conflict.takeYours")),
    button("check", t("conflict.both"), () => choose(union(yours.annotations, current.annotations)), t("conflict.both"), "primary"),
  ], { wide: true, must: true });
}

function said(annotation) {
  const { shape } = annotation;
  const where = shape ? ` ${t(`shape.${shape.kind}`)} ${bounds(shape).map(Math.round).join(", ")}` : "";
  const scene = annotation.scene ? t(`scene.${annotation.scene}`) : "";
  return [annotation.label, annotation.text && `“${annotation.text.slice(0, 120)}”`, scene].filter(Boolean).join(" ") + where;
}

function side(title, image, annotations, marked) {
  const canvas = document.createElement("canvas");
  canvas.width = 440;
  canvas.height = 300;
  paint(canvas, image, annotations, marked);
  return el("figure", {}, el("figcaption", {}, title, el("span", { class: "count" }, annotations.length)), canvas);
}

/** A small picture of a version; what differs is drawn strong. */
export async function paint(canvas, image, annotations, marked) {
  const context = canvas.getContext("2d");
  const scale = Math.min(canvas.width / image.width, canvas.height / image.height);
  context.setTransform(scale, 0, 0, scale, (canvas.width - image.width * scale) / 2, (canvas.height - image.height * scale) / 2);
  const bitmap = await picture(`/api/images/${image.id}/preview`).catch(() => null);
  context.fillStyle = "#1b1e24";
  context.fillRect(0, 0, image.width, image.height);
  if (bitmap) context.drawImage(bitmap, 0, 0, image.width, image.height);
  for (const annotation of annotations) {
    const { shape } = annotation;
    if (!shape) continue;
    context.strokeStyle = colorOf(annotation.label);
    context.lineWidth = (marked.has(annotation) ? 3 : 1) / scale;
    context.beginPath();
    if (shape.kind === "mask" || shape.kind === "point") {
      const [left, top, right, bottom] = bounds(shape);
      context.rect(left - 3 / scale, top - 3 / scale, right - left + 6 / scale, bottom - top + 6 / scale);
    } else {
      for (const ring of shape.kind === "polygon" ? shape.parts.flat() : [corners(shape)]) {
        ring.forEach(([x, y], index) => (index ? context.lineTo(x, y) : context.moveTo(x, y)));
        context.closePath();
      }
    }
    context.stroke();
  }
}
