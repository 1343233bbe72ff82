// The three canvases, one over the other: the picture, all shapes, and what is being worked on. Drawing is done once a
// frame at most; the layer of all shapes only when they or the view have changed.

import { colorOf, emit } from "./state.js";
import { area, bounds, corners, handles } from "./shapes.js";
import { Picture } from "./picture.js";

const MANY = 700; // shapes in sight above which they are drawn by colour, outlines alone
const LABELS = 160; // above which their names are left out
const GRIP = 4.5; // half the side of a handle

export class View {
  constructor(host) {
    this.host = host;
    [this.under, this.middle, this.over] = ["picture", "shapes", "active"].map((name) => {
      const canvas = document.createElement("canvas");
      canvas.className = `layer ${name}`;
      host.append(canvas);
      return canvas;
    });
    this.scale = 1;
    this.x = 0;
    this.y = 0;
    this.doc = null;
    this.picture = null;
    this.dirty = new Set();
    this.overlay = null; // what a tool draws: (context, view)
    this.hover = null;
    this.shown = { shapes: true, predictions: true, labels: true };
    this.paths = new WeakMap();
    this.masks = new WeakMap();
    this.reviewed = null; // somebody else's annotations, shown read-only
    new ResizeObserver(() => this.resize()).observe(host);
    this.resize();
  }

  resize() {
    const { clientWidth: width, clientHeight: height } = this.host;
    this.ratio = Math.min(2, devicePixelRatio || 1);
    const first = !this.width && width;
    [this.width, this.height] = [width, height];
    for (const canvas of [this.under, this.middle, this.over]) {
      canvas.width = Math.max(1, Math.round(width * this.ratio));
      canvas.height = Math.max(1, Math.round(height * this.ratio));
    }
    if (first && this.doc) this.fit();
    this.redraw();
  }

  open(doc, keepView = false) {
    const same = this.doc && this.doc.image.width === doc.image.width && this.doc.image.height === doc.image.height;
    this.doc = doc;
    this.hover = null;
    this.overlay = null;
    this.picture?.close();
    this.picture = new Picture(doc.image, () => this.redraw("picture"));
    if (!(keepView && same)) this.fit();
    this.redraw();
  }

  fit() {
    if (!this.doc) return;
    const { width, height } = this.doc.image;
    this.scale = Math.max(0.01, Math.min((this.width - 32) / width, (this.height - 32) / height));
    this.x = (this.width - width * this.scale) / 2;
    this.y = (this.height - height * this.scale) / 2;
    this.redraw();
  }

  zoomTo(scale, sx = this.width / 2, sy = this.height / 2) {
    const next = Math.min(64, Math.max(0.01, scale));
    this.x = sx - ((sx - this.x) * next) / this.scale;
    this.y = sy - ((sy - this.y) * next) / this.scale;
    this.scale = next;
    this.redraw();
  }

  pan(dx, dy) {
    this.x += dx;
    this.y += dy;
    this.redraw();
  }

  /** Bring a rectangle into sight, without moving when it is. */
  reveal([left, top, right, bottom]) {
    const [a, b] = [this.toScreen([left, top]), this.toScreen([right, bottom])];
    if (a[0] >= 0 && a[1] >= 0 && b[0] <= this.width && b[1] <= this.height) return;
    const [cx, cy] = this.toScreen([(left + right) / 2, (top + bottom) / 2]);
    this.pan(this.width / 2 - cx, this.height / 2 - cy);
  }

  toImage([sx, sy]) {
    return [(sx - this.x) / this.scale, (sy - this.y) / this.scale];
  }

  toScreen([ix, iy]) {
    return [ix * this.scale + this.x, iy * this.scale + this.y];
  }

  redraw(...layers) {
    for (const layer of layers.length ? layers : ["picture", "shapes", "active"]) this.dirty.add(layer);
    if (this.frame) return;
    this.frame = requestAnimationFrame(() => {
      this.frame = null;
      const layersNow = this.dirty;
      this.dirty = new Set();
      if (layersNow.has("picture")) this.drawPicture();
      if (layersNow.has("shapes")) this.drawShapes();
      if (layersNow.has("active")) this.drawActive();
      emit("drawn");
    });
  }

  start(canvas) {
    const context = canvas.getContext("2d");
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, canvas.width, canvas.height);
    context.setTransform(this.ratio, 0, 0, this.ratio, 0, 0);
    return context;
  }

  toPixels(context) {
    const { ratio, scale } = this;
    context.setTransform(ratio * scale, 0, 0, ratio * scale, ratio * this.x, ratio * this.y);
  }

  drawPicture() {
    const context = this.start(this.under);
    if (this.doc && this.picture) {
      this.toPixels(context);
      this.picture.draw(context, this.scale * this.ratio, [...this.toImage([0, 0]), ...this.toImage([this.width, this.height])]);
    }
  }

  annotations() {
    return this.reviewed ?? this.doc.annotations;
  }

  inSight() {
    const [left, top] = this.toImage([0, 0]);
    const [right, bottom] = this.toImage([this.width, this.height]);
    if (this.reviewed) return this.reviewed.filter((annotation) => annotation.shape);
    const near = this.doc.grid.near([left, top, right, bottom]);
    return this.doc.annotations.filter((annotation) => annotation.shape && near.has(annotation.id) && !this.doc.hidden.has(annotation.id));
  }

  drawShapes() {
    const context = this.start(this.middle);
    if (!this.doc || !this.shown.shapes) return;
    const resting = this.inSight().filter((annotation) => this.reviewed || !this.doc.selection.has(annotation.id));
    this.toPixels(context);
    if (resting.length > MANY) this.drawByColor(context, resting);
    else {
      const sorted = resting.length > 1 ? [...resting].sort((a, b) => area(b.shape) - area(a.shape)) : resting;
      for (const annotation of sorted) this.drawOne(context, annotation, false);
      if (resting.length <= LABELS && this.shown.labels) for (const annotation of sorted) this.drawName(context, annotation);
    }
    if (this.shown.predictions && !this.reviewed) this.drawPredictions(context);
  }

  drawByColor(context, annotations) {
    const byColor = new Map();
    for (const annotation of annotations) {
      const color = colorOf(annotation.label);
      if (!byColor.has(color)) byColor.set(color, []);
      byColor.get(color).push(annotation);
    }
    context.lineWidth = 1.2 / this.scale;
    for (const [color, own] of byColor) {
      context.beginPath();
      for (const { shape } of own) {
        if (shape.kind === "box") context.rect(shape.x, shape.y, shape.width, shape.height);
        else if (shape.kind === "point") {
          const r = 3 / this.scale;
          context.rect(shape.x - r, shape.y - r, 2 * r, 2 * r);
        } else if (shape.kind !== "mask") for (const ring of rings(shape)) trace(context, ring);
      }
      context.strokeStyle = color;
      context.stroke();
      for (const { shape } of own) if (shape.kind === "mask") this.drawMask(context, shape, color);
    }
  }

  path(shape) {
    if (!this.paths.has(shape)) {
      const path = new Path2D();
      for (const ring of rings(shape)) trace(path, ring);
      this.paths.set(shape, path);
    }
    return this.paths.get(shape);
  }

  drawOne(context, annotation, strong, dashed = false) {
    const { shape } = annotation;
    const color = colorOf(annotation.label);
    context.strokeStyle = color;
    context.lineWidth = (strong ? 2.2 : 1.5) / this.scale;
    context.setLineDash(dashed ? [6 / this.scale, 4 / this.scale] : []);
    if (shape.kind === "point") return this.drawPoint(context, shape, color, strong);
    if (shape.kind === "mask") return this.drawMask(context, shape, color, strong);
    const path = this.path(shape);
    context.globalAlpha = strong ? 0.22 : dashed ? 0.06 : 0.12;
    context.fillStyle = color;
    context.fill(path, "evenodd");
    context.globalAlpha = 1;
    context.stroke(path);
    context.setLineDash([]);
  }

  drawPoint(context, shape, color, strong) {
    const r = (strong ? 6 : 4.5) / this.scale;
    context.beginPath();
    context.arc(shape.x, shape.y, r, 0, 7);
    context.fillStyle = color;
    context.globalAlpha = 0.35;
    context.fill();
    context.globalAlpha = 1;
    context.stroke();
    context.setLineDash([]);
    context.beginPath();
    context.arc(shape.x, shape.y, r / 4, 0, 7);
    context.fill();
  }

  drawMask(context, shape, color, strong = false) {
    if (this.masks.get(shape)?.color !== color) this.masks.set(shape, { color, canvas: maskCanvas(shape, color) });
    const [left, top, right, bottom] = bounds(shape);
    context.globalAlpha = strong ? 0.6 : 0.4;
    context.imageSmoothingEnabled = false;
    if (right > left) context.drawImage(this.masks.get(shape).canvas, left, top);
    context.globalAlpha = 1;
    context.setLineDash([]);
  }

  drawName(context, annotation, text = annotation.label) {
    const [left, top, right] = bounds(annotation.shape);
    if (!text || (right - left) * this.scale < 22 && annotation.shape.kind !== "point") return;
    const [sx, sy] = this.toScreen([left, top]);
    context.save();
    context.setTransform(this.ratio, 0, 0, this.ratio, 0, 0);
    context.font = "600 11px system-ui, 'Noto Sans CJK SC', sans-serif";
    const short = text.length > 40 ? `${text.slice(0, 39)}…` : text;
    const width = context.measureText(short).width + 8;
    const x = annotation.shape.kind === "point" ? sx + 9 : sx;
    const y = Math.max(0, sy - (annotation.shape.kind === "point" ? 8 : 16));
    context.fillStyle = colorOf(annotation.label);
    context.fillRect(x - 1, y, width, 15);
    context.fillStyle = "#0b0d10";
    context.fillText(short, x + 3, y + 11.5);
    context.restore();
  }

  drawPredictions(context) {
    const open = this.doc.undecided().filter((each) => each.annotation.shape);
    for (const each of open) this.drawOne(context, each.annotation, false, true);
    if (open.length > LABELS) return;
    for (const each of open) {
      const score = each.score === null ? "" : ` ${each.score.toFixed(2)}`;
      this.drawName(context, each.annotation, `? ${each.annotation.label ?? ""}${score}`);
    }
  }

  drawActive() {
    const context = this.start(this.over);
    if (!this.doc) return;
    this.toPixels(context);
    if (!this.reviewed && this.shown.shapes) {
      const chosen = this.doc.selected().filter((annotation) => annotation.shape);
      for (const annotation of chosen) this.drawOne(context, this.override?.get(annotation.id) ?? annotation, true);
      if (chosen.length <= 30) for (const annotation of chosen) this.drawName(context, this.override?.get(annotation.id) ?? annotation);
      if (chosen.length === 1 && !this.doc.readOnly) this.drawHandles(context, (this.override?.get(chosen[0].id) ?? chosen[0]).shape);
      const hovered = this.hover && this.doc.byId.get(this.hover);
      if (hovered?.shape && !this.doc.selection.has(this.hover) && hovered.shape.kind !== "mask") {
        context.lineWidth = 3 / this.scale;
        context.strokeStyle = colorOf(hovered.label);
        if (hovered.shape.kind !== "point") context.stroke(this.path(hovered.shape));
      }
    }
    this.overlay?.(context, this);
  }

  drawHandles(context, shape) {
    context.lineWidth = 1.2 / this.scale;
    for (const handle of this.handlesOf(shape)) {
      const [x, y] = handle.at;
      const active = this.doc.vertex && handle.role === "vertex" && ["p", "r", "v"].every((k) => handle[k] === this.doc.vertex[k]);
      const r = (handle.role === "insert" ? GRIP * 0.6 : active ? GRIP * 1.5 : GRIP) / this.scale;
      context.fillStyle = active ? "#f2a33c" : handle.role === "insert" ? "#9aa3ad" : "#ffffff";
      context.strokeStyle = "#0b0d10";
      context.beginPath();
      if (handle.role === "vertex" || handle.role === "rotate" || handle.role === "insert") context.arc(x, y, r, 0, 7);
      else context.rect(x - r, y - r, 2 * r, 2 * r);
      context.fill();
      context.stroke();
    }
  }

  /** Handles of a shape; of a polygon with hundreds of points only those in sight, and none for new vertices. */
  handlesOf(shape) {
    const all = handles(shape, 22 / this.scale);
    if (all.length < 400) return all;
    const [left, top] = this.toImage([0, 0]);
    const [right, bottom] = this.toImage([this.width, this.height]);
    const seen = all.filter(({ at: [x, y], role }) => role === "vertex" && x >= left && x <= right && y >= top && y <= bottom);
    return seen.length > 1200 ? [] : seen;
  }

  /** What is at a place of the screen: the smallest of the shapes there. */
  hit(point, tolerance, contains) {
    const [x, y] = this.toImage(point);
    const t = tolerance / this.scale;
    let best = null;
    for (const id of this.doc.grid.near([x - t, y - t, x + t, y + t])) {
      const annotation = this.doc.byId.get(id);
      if (!annotation || this.doc.hidden.has(id) || !contains(annotation.shape, x, y, t)) continue;
      const inside = annotation.shape.kind === "point" || contains(annotation.shape, x, y, 0);
      const size = area(annotation.shape) + (inside ? 0 : 1e12); // beside the outline counts where nothing is under the cursor
      if (!best || size < best.size) best = { annotation, size };
    }
    return best?.annotation ?? null;
  }
}

function rings(shape) {
  return shape.kind === "polygon" ? shape.parts.flat() : [corners(shape)];
}

function trace(path, ring) {
  ring.forEach(([x, y], index) => (index ? path.lineTo(x, y) : path.moveTo(x, y)));
  path.closePath();
}

/** The pixels of a mask within its bounds, in a colour. */
function maskCanvas(mask, color) {
  const [left, top, right, bottom] = bounds(mask);
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, right - left);
  canvas.height = Math.max(1, bottom - top);
  const context = canvas.getContext("2d");
  context.fillStyle = color;
  let at = 0;
  mask.runs.forEach((run, index) => {
    if (index % 2) {
      for (let from = at; from < at + run;) {
        const column = Math.floor(from / mask.height);
        const to = Math.min(at + run, (column + 1) * mask.height);
        context.fillRect(column - left, (from % mask.height) - top, 1, to - from);
        from = to;
      }
    }
    at += run;
  });
  return canvas;
}
