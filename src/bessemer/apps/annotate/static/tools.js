// What the pointer and the arrow keys do on the canvas: select and change, draw, pan and zoom (also while drawing).

import { emit } from "./state.js";
import { bounds, boxFrom, contains, dragged, grown, moved, rotatedFrom, withoutVertex, withRing } from "./shapes.js";
import { sketch } from "./sketch.js";

const REACH = 7; // screen pixels within which something is hit
const DRAG = 3; // screen pixels from which a press is a drag
export const TOOLS = ["select", "box", "rotated", "polygon", "point"];

export class Tools {
  constructor(view, { label, onDrawn }) {
    this.view = view;
    this.label = label; // () => the label for what is drawn
    this.onDrawn = onDrawn;
    this.tool = "select";
    this.points = []; // of the shape being drawn, image pixels
    this.ring = null; // {id, hole}: the next polygon is one more ring of that shape
    this.cursor = null; // where the pointer, or the crosshair of the keys, is
    this.keyed = false;
    this.gesture = null;
    this.space = false;
    const host = view.host;
    host.addEventListener("pointerdown", (event) => this.down(event));
    host.addEventListener("pointermove", (event) => this.move(event));
    host.addEventListener("pointerup", (event) => this.up(event));
    host.addEventListener("pointercancel", () => this.abort());
    host.addEventListener("dblclick", (event) => this.double(event));
    host.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    host.addEventListener("contextmenu", (event) => event.preventDefault());
    host.addEventListener("pointerleave", () => { if (!this.keyed) this.cursor = null; view.hover = null; view.redraw("active"); });
  }

  get doc() {
    return this.view.doc;
  }

  get frozen() {
    return !this.doc || this.doc.readOnly || this.view.reviewed !== null;
  }

  /** Forget what was begun. */
  leave() {
    this.cancel();
    this.ring = null;
  }

  choose(tool) {
    this.leave();
    this.tool = tool;
    if (tool !== "select" && this.doc && this.doc.selection.size) this.doc.select([]);
    this.keyed = false;
    emit("tool", tool);
    this.mark();
  }

  /** Draw one more part, or a hole, of the selected polygon. */
  chooseRing(hole) {
    const [chosen] = this.doc.selected();
    if (this.frozen || chosen?.shape?.kind !== "polygon") return;
    this.cancel();
    this.tool = "polygon";
    this.ring = { id: chosen.id, hole };
    emit("tool", "polygon");
    this.mark();
  }

  cancel() {
    this.points = [];
    this.abort();
    this.mark();
  }

  abort() {
    this.gesture = null;
    this.view.override = null;
    this.view.redraw();
  }

  at(event) {
    const box = this.view.host.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  }

  wheel(event) {
    event.preventDefault();
    const [x, y] = this.at(event);
    const step = event.deltaMode === 1 ? event.deltaY * 16 : event.deltaY;
    if (event.shiftKey && !event.ctrlKey) this.view.pan(-step, 0);
    else this.view.zoomTo(this.view.scale * Math.exp(-step * 0.0016), x, y);
    this.cursor = this.view.toImage([x, y]);
    this.mark();
  }

  down(event) {
    if (!this.doc) return;
    this.view.host.focus();
    const point = this.at(event);
    this.keyed = false;
    this.view.host.setPointerCapture?.(event.pointerId);
    const pans = event.button === 1 || event.button === 2 || this.space || event.altKey && !this.vertexAt(point);
    if (pans) {
      this.gesture = { kind: "pan", from: point, pan: true };
      return;
    }
    if (event.button !== 0 || this.frozen && this.tool !== "select") return;
    if (this.tool === "select") this.gesture = this.press(point, event);
    else if (this.tool === "box") this.gesture = { kind: "box", from: point, start: this.view.toImage(point), second: this.points.length === 1 };
    else this.gesture = { kind: "click", from: point };
  }

  vertexAt(point) {
    const handle = this.handleAt(point);
    return handle?.role === "vertex" ? handle : null;
  }

  handleAt([sx, sy]) {
    const [chosen, ...others] = this.doc.selected();
    if (this.frozen || !chosen?.shape || others.length) return null;
    let best = null;
    for (const handle of this.view.handlesOf(chosen.shape)) {
      const [x, y] = this.view.toScreen(handle.at);
      const far = Math.hypot(x - sx, y - sy) - (handle.role === "insert" ? 0 : 2);
      if (far < REACH && (!best || far < best.far)) best = { handle, far };
    }
    return best?.handle ?? null;
  }

  press(point, event) {
    const handle = this.handleAt(point);
    if (handle) {
      const [chosen] = this.doc.selected();
      if (handle.role === "vertex" && event.altKey) {
        this.deleteVertex(chosen, handle);
        return null;
      }
      this.doc.vertex = handle.role === "vertex" ? handle : null;
      this.view.redraw("active");
      return { kind: "handle", from: point, handle, before: chosen };
    }
    if (this.view.reviewed) return null;
    const found = this.view.hit(point, REACH, contains);
    if (event.shiftKey) return found ? { kind: "toggle", from: point, id: found.id } : { kind: "marquee", from: point, add: true };
    if (!found) return { kind: "marquee", from: point };
    if (!this.doc.selection.has(found.id)) this.doc.select([found.id]);
    return this.frozen ? null : { kind: "move", from: point, before: this.doc.selected() };
  }

  move(event) {
    if (!this.doc) return;
    const point = this.at(event);
    this.cursor = this.view.toImage(point);
    this.keyed = false;
    emit("cursor", this.cursor);
    const gesture = this.gesture;
    if (!gesture) {
      this.hoverAt(point);
      if (this.points.length || this.tool !== "select") this.mark();
      return;
    }
    gesture.moved ||= Math.hypot(point[0] - gesture.from[0], point[1] - gesture.from[1]) > DRAG;
    if (gesture.kind === "pan") {
      this.view.pan(point[0] - gesture.from[0], point[1] - gesture.from[1]);
      gesture.from = point;
    } else if (gesture.moved) this.drag(gesture, point, event.shiftKey);
    this.mark();
  }

  hoverAt(point) {
    if (this.tool !== "select" || this.view.reviewed) return;
    const handle = this.handleAt(point);
    const found = handle ? null : this.view.hit(point, REACH, contains);
    this.view.host.dataset.cursor = handle ? "grab" : found ? "pointer" : "";
    if (this.view.hover !== (found?.id ?? null)) {
      this.view.hover = found?.id ?? null;
      this.view.redraw("active");
    }
  }

  drag(gesture, point, straight) {
    if (gesture.kind === "handle") {
      const { before, handle } = gesture;
      this.live([{ ...before, shape: dragged(before.shape, handle, this.view.toImage(point), straight) }]);
    } else if (gesture.kind === "move") {
      const [dx, dy] = [point[0] - gesture.from[0], point[1] - gesture.from[1]].map((value) => value / this.view.scale);
      this.live(gesture.before.filter((each) => each.shape).map((each) => ({ ...each, shape: moved(each.shape, dx, dy) })));
    }
  }

  live(changed) {
    this.view.override = new Map(changed.map((annotation) => [annotation.id, annotation]));
    this.view.redraw("active");
  }

  up(event) {
    const gesture = this.gesture;
    this.gesture = null;
    if (!gesture || !this.doc) return;
    const point = this.at(event);
    const changed = this.view.override;
    this.view.override = null;
    if (changed && gesture.moved) {
      this.doc.replace([...changed.values()]);
      if (gesture.handle?.role === "insert") this.doc.vertex = { ...gesture.handle, role: "vertex" };
    } else if (gesture.kind === "marquee") this.pick(gesture, point);
    else if (gesture.kind === "toggle") this.doc.select([gesture.id], { toggle: true });
    else if (gesture.kind === "move" && !gesture.moved && this.doc.selection.size > 1) {
      const found = this.view.hit(point, REACH, contains);
      if (found) this.doc.select([found.id]);
    } else if (gesture.kind === "box") this.boxUp(gesture, point);
    else if (gesture.kind === "click") this.place(this.view.toImage(point));
    this.mark();
  }

  pick(gesture, point) {
    if (!gesture.moved) {
      if (!gesture.add) this.doc.select([]);
      return;
    }
    const [a, b] = [gesture.from, point].map((each) => this.view.toImage(each));
    const frame = boxFrom(a, b);
    const inside = this.doc.shapes.filter(({ shape }) => {
      const [left, top, right, bottom] = bounds(shape);
      return left >= frame.x && top >= frame.y && right <= frame.x + frame.width && bottom <= frame.y + frame.height;
    });
    this.doc.select([...(gesture.add ? this.doc.selection : []), ...inside.map((annotation) => annotation.id)]);
  }

  boxUp(gesture, point) {
    const end = this.view.toImage(point);
    if (gesture.moved && !gesture.second) {
      this.points = [];
      this.finish(boxFrom(this.clamp(gesture.start), this.clamp(end)));
    } else this.place(end);
  }

  clamp([x, y]) {
    const { width, height } = this.doc.image;
    return [Math.min(width, Math.max(0, x)), Math.min(height, Math.max(0, y))];
  }

  /** A point of the shape being drawn: a click, or Enter at the crosshair. */
  place(point) {
    if (this.frozen || this.tool === "select") return;
    const here = this.clamp(point);
    if (this.tool === "point") return this.finish({ kind: "point", x: here[0], y: here[1] });
    if (this.tool === "polygon" && this.points.length >= 3) {
      const [first, now] = [this.view.toScreen(this.points[0]), this.view.toScreen(here)];
      if (Math.hypot(first[0] - now[0], first[1] - now[1]) <= REACH + 2) return this.close();
    }
    const last = this.points.at(-1);
    if (last && last[0] === here[0] && last[1] === here[1]) return undefined;
    this.points.push(here);
    if (this.tool === "box" && this.points.length === 2) this.finish(boxFrom(...this.points));
    if (this.tool === "rotated" && this.points.length === 3) this.finish(rotatedFrom(...this.points));
    this.mark();
    return undefined;
  }

  double() {
    if (this.tool === "polygon" && this.points.length >= 3) this.close();
    else if (this.tool === "select" && this.doc?.selection.size === 1) emit("edit-label");
  }

  /** Close the polygon being drawn. */
  close() {
    if (this.tool !== "polygon" || this.points.length < 3) return;
    this.finish({ kind: "polygon", parts: [[this.points]] });
  }

  finish(shape) {
    this.points = [];
    if ("width" in shape && (shape.width * this.view.scale < 2 || shape.height * this.view.scale < 2)) return this.mark();
    const home = this.ring && this.doc.byId.get(this.ring.id);
    if (home) {
      this.doc.replace([{ ...home, shape: withRing(home.shape, shape.parts[0][0], this.ring.hole) }]);
      this.ring = null;
      this.doc.select([home.id]);
      this.choose("select");
      this.doc.select([home.id]);
      return undefined;
    }
    const label = this.label();
    const [made] = this.doc.add([label === null ? { shape } : { label, shape }]);
    this.onDrawn(made);
    return this.mark();
  }

  /** Backspace while drawing takes the last point back; true when it did. */
  unplace() {
    if (!this.points.length) return false;
    this.points.pop();
    this.mark();
    return true;
  }

  deleteVertex(annotation, handle) {
    const shape = withoutVertex(annotation.shape, handle);
    this.doc.vertex = null;
    if (shape) this.doc.replace([{ ...annotation, shape }]);
    else this.doc.remove([annotation.id]);
  }

  /** Delete the chosen vertex, else the selection. */
  delete() {
    if (this.unplace() || this.frozen) return;
    const [chosen] = this.doc.selected();
    if (this.doc.vertex && chosen) this.deleteVertex(chosen, this.doc.vertex);
    else this.doc.remove(this.doc.selection);
  }

  stepVertex(step) {
    const [chosen] = this.doc.selected();
    if (chosen?.shape?.kind !== "polygon") return;
    const all = this.view.handlesOf(chosen.shape).filter((handle) => handle.role === "vertex");
    const now = all.findIndex((handle) => ["p", "r", "v"].every((key) => handle[key] === this.doc.vertex?.[key]));
    this.doc.vertex = all[(now + step + all.length) % all.length] ?? null;
    this.view.redraw("active");
  }

  insertVertex() {
    const [chosen] = this.doc.selected();
    const vertex = this.doc.vertex;
    if (this.frozen || !vertex || chosen?.shape?.kind !== "polygon") return;
    const ring = chosen.shape.parts[vertex.p][vertex.r];
    const [a, b] = [ring[vertex.v], ring[(vertex.v + 1) % ring.length]];
    const middle = [(a[0] + b[0]) / 2, (a[1] + b[1]) / 2];
    const next = { role: "insert", p: vertex.p, r: vertex.r, v: vertex.v + 1 };
    this.doc.replace([{ ...chosen, shape: dragged(chosen.shape, next, middle) }]);
    this.doc.vertex = { ...next, role: "vertex", at: middle };
    this.view.redraw("active");
  }

  /** An arrow key: moves the crosshair while drawing, the chosen vertex, or the selection. True when it did something. */
  arrow([dx, dy], { shift, alt }) {
    if (this.tool !== "select") {
      const step = (alt ? 1 : (shift ? 64 : 8) / this.view.scale);
      const from = this.cursor ?? this.view.toImage([this.view.width / 2, this.view.height / 2]);
      this.cursor = this.clamp([from[0] + dx * step, from[1] + dy * step]);
      this.keyed = true;
      this.view.reveal([...this.cursor, ...this.cursor]);
      emit("cursor", this.cursor);
      this.mark();
      return true;
    }
    const chosen = this.doc.selected().filter((annotation) => annotation.shape);
    if (!chosen.length || this.frozen) return false;
    const step = shift ? 10 : 1;
    const change = (shape) => {
      if (this.doc.vertex && chosen.length === 1) {
        const { p, r, v } = this.doc.vertex;
        const [x, y] = shape.parts[p][r][v];
        return dragged(shape, this.doc.vertex, [x + dx * step, y + dy * step]);
      }
      return alt ? grown(shape, dx * step, dy * step) : moved(shape, dx * step, dy * step);
    };
    const vertex = this.doc.vertex;
    this.doc.replace(chosen.map((annotation) => ({ ...annotation, shape: change(annotation.shape) })), `nudge ${[...this.doc.selection].join()}`);
    this.doc.vertex = vertex;
    return true;
  }

  /** Enter: the crosshair's point, where it is. */
  enter() {
    if (this.tool === "select" || this.frozen) return;
    if (!this.cursor) {
      this.cursor = this.view.toImage([this.view.width / 2, this.view.height / 2]);
      this.keyed = true;
    }
    this.place(this.cursor);
  }

  mark() {
    const busy = this.tool !== "select" || this.gesture?.kind === "marquee";
    this.view.overlay = busy ? (context) => sketch(context, this) : null;
    this.view.redraw("active");
  }
}
