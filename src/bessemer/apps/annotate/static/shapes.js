// Geometry of shapes as the server's codec has them: {kind, ...} in pixels of the upright image.

const RAD = Math.PI / 180;

/** [left, top, right, bottom] */
export function bounds(shape) {
  if (shape.kind === "box") return [shape.x, shape.y, shape.x + shape.width, shape.y + shape.height];
  if (shape.kind === "point") return [shape.x, shape.y, shape.x, shape.y];
  if (shape.kind === "mask") return maskBounds(shape);
  const points = shape.kind === "polygon" ? shape.parts.flat(2) : corners(shape);
  let [left, top, right, bottom] = [Infinity, Infinity, -Infinity, -Infinity];
  for (const [x, y] of points) {
    left = Math.min(left, x);
    top = Math.min(top, y);
    right = Math.max(right, x);
    bottom = Math.max(bottom, y);
  }
  return [left, top, right, bottom];
}

const maskBoxes = new WeakMap();

function maskBounds(mask) {
  if (maskBoxes.has(mask)) return maskBoxes.get(mask);
  let [left, top, right, bottom] = [mask.width, mask.height, 0, 0];
  let at = 0;
  mask.runs.forEach((run, index) => {
    if (index % 2 && run) {
      const [first, last] = [at, at + run - 1];
      const [c0, c1] = [Math.floor(first / mask.height), Math.floor(last / mask.height)];
      left = Math.min(left, c0);
      right = Math.max(right, c1 + 1);
      top = Math.min(top, c0 === c1 ? first % mask.height : 0);
      bottom = Math.max(bottom, c0 === c1 ? (last % mask.height) + 1 : mask.height);
    }
    at += run;
  });
  const found = right ? [left, top, right, bottom] : [0, 0, 0, 0];
  maskBoxes.set(mask, found);
  return found;
}

/** The four corners of a box or a rotated box, clockwise from its own upper left one. */
export function corners(shape) {
  if (shape.kind === "box") {
    const { x, y, width, height } = shape;
    return [[x, y], [x + width, y], [x + width, y + height], [x, y + height]];
  }
  const [c, s] = [Math.cos(shape.angle * RAD), Math.sin(shape.angle * RAD)];
  return [[-1, -1], [1, -1], [1, 1], [-1, 1]].map(([a, b]) => {
    const [u, v] = [(a * shape.width) / 2, (b * shape.height) / 2];
    return [shape.cx + u * c - v * s, shape.cy + u * s + v * c];
  });
}

export function area(shape) {
  if (shape.kind === "box" || shape.kind === "rotated_box") return shape.width * shape.height;
  if (shape.kind === "point") return 0;
  if (shape.kind === "mask") return shape.runs.reduce((sum, run, index) => sum + (index % 2 ? run : 0), 0);
  return shape.parts.reduce((sum, part) => sum + part.reduce((own, ring, index) => own + (index ? -1 : 1) * Math.abs(ringArea(ring)), 0), 0);
}

function ringArea(ring) {
  let sum = 0;
  for (let i = 0, j = ring.length - 1; i < ring.length; j = i, i += 1) sum += ring[j][0] * ring[i][1] - ring[i][0] * ring[j][1];
  return sum / 2;
}

function inRings(rings, x, y) {
  let inside = false;
  for (const ring of rings) {
    for (let i = 0, j = ring.length - 1; i < ring.length; j = i, i += 1) {
      const [[xi, yi], [xj, yj]] = [ring[i], ring[j]];
      if (yi > y !== yj > y && x < ((xj - xi) * (y - yi)) / (yj - yi) + xi) inside = !inside;
    }
  }
  return inside;
}

export function contains(shape, x, y, tolerance = 0) {
  const [left, top, right, bottom] = bounds(shape);
  if (x < left - tolerance || x > right + tolerance || y < top - tolerance || y > bottom + tolerance) return false;
  if (shape.kind === "box") return true;
  if (shape.kind === "point") return Math.hypot(x - shape.x, y - shape.y) <= tolerance * 1.5;
  if (shape.kind === "mask") {
    const place = Math.floor(x) * shape.height + Math.floor(y);
    let at = 0;
    for (let index = 0; index < shape.runs.length; index += 1) {
      at += shape.runs[index];
      if (at > place) return index % 2 === 1;
    }
    return false;
  }
  const parts = shape.kind === "polygon" ? shape.parts : [[corners(shape)]];
  return parts.some((part) => inRings(part, x, y)) || parts.flat().some((ring) => nearRing(ring, x, y, tolerance));
}

function nearRing(ring, x, y, tolerance) {
  for (let i = 0, j = ring.length - 1; i < ring.length; j = i, i += 1) {
    if (segmentDistance(x, y, ring[j], ring[i])[0] <= tolerance) return true;
  }
  return false;
}

/** [distance, nearest point] */
export function segmentDistance(x, y, [ax, ay], [bx, by]) {
  const [dx, dy] = [bx - ax, by - ay];
  const along = dx || dy ? Math.max(0, Math.min(1, ((x - ax) * dx + (y - ay) * dy) / (dx * dx + dy * dy))) : 0;
  const point = [ax + along * dx, ay + along * dy];
  return [Math.hypot(x - point[0], y - point[1]), point];
}

export function moved(shape, dx, dy) {
  if (shape.kind === "rotated_box") return { ...shape, cx: shape.cx + dx, cy: shape.cy + dy };
  if (shape.kind === "polygon") return { ...shape, parts: shape.parts.map((part) => part.map((ring) => ring.map(([x, y]) => [x + dx, y + dy]))) };
  if (shape.kind === "mask") return shape; // tied to the pixels
  return { ...shape, x: shape.x + dx, y: shape.y + dy };
}

/** The shape with its right and lower sides moved: for resizing with the keys. */
export function grown(shape, dx, dy) {
  if (shape.kind === "box" || shape.kind === "rotated_box") {
    return { ...shape, width: Math.max(1, shape.width + dx), height: Math.max(1, shape.height + dy) };
  }
  return shape;
}

export function boxFrom([ax, ay], [bx, by]) {
  return { kind: "box", x: Math.min(ax, bx), y: Math.min(ay, by), width: Math.abs(bx - ax), height: Math.abs(by - ay) };
}

/** The rotated box with the side from a to b and the opposite side through c. */
export function rotatedFrom([ax, ay], [bx, by], [px, py]) {
  const angle = Math.atan2(by - ay, bx - ax);
  const [c, s] = [Math.cos(angle), Math.sin(angle)];
  const depth = -(px - ax) * s + (py - ay) * c;
  const [mx, my] = [(ax + bx) / 2, (ay + by) / 2];
  return {
    kind: "rotated_box", cx: mx - (s * depth) / 2, cy: my + (c * depth) / 2,
    width: Math.hypot(bx - ax, by - ay), height: Math.abs(depth), angle: angle / RAD,
  };
}

/** What can be dragged at a shape: {at: [x, y], role, ...}. Midpoints of a polygon's sides make new vertices. */
export function handles(shape, rotationReach = 0) {
  if (shape.kind === "polygon") {
    const found = [];
    shape.parts.forEach((part, p) => part.forEach((ring, r) => ring.forEach((point, v) => {
      const next = ring[(v + 1) % ring.length];
      found.push({ role: "vertex", at: point, p, r, v });
      found.push({ role: "insert", at: [(point[0] + next[0]) / 2, (point[1] + next[1]) / 2], p, r, v: v + 1 });
    })));
    return found;
  }
  if (shape.kind !== "box" && shape.kind !== "rotated_box") return [];
  const four = corners(shape);
  const found = [];
  four.forEach((point, index) => {
    const next = four[(index + 1) % 4];
    found.push({ role: "corner", at: point, index });
    found.push({ role: "side", at: [(point[0] + next[0]) / 2, (point[1] + next[1]) / 2], index });
  });
  if (shape.kind === "rotated_box") {
    const s = shape.angle * RAD;
    const reach = shape.height / 2 + rotationReach;
    found.push({ role: "rotate", at: [shape.cx + Math.sin(s) * reach, shape.cy - Math.cos(s) * reach] });
  }
  return found;
}

/** The shape after a handle was dragged to a place. */
export function dragged(shape, handle, [x, y], straight = false) {
  if (handle.role === "vertex" || handle.role === "insert") {
    return editRing(shape, handle, (ring) => {
      if (handle.role === "insert") ring.splice(handle.v, 0, [x, y]);
      else ring[handle.v] = [x, y];
    });
  }
  if (handle.role === "rotate") {
    const angle = Math.atan2(y - shape.cy, x - shape.cx) / RAD + 90;
    return { ...shape, angle: straight ? Math.round(angle / 15) * 15 : ((angle + 540) % 360) - 180 };
  }
  const turn = shape.kind === "box" ? 0 : shape.angle * RAD;
  const [c, s] = [Math.cos(turn), Math.sin(turn)];
  const local = ([px, py]) => [px * c + py * s, -px * s + py * c];
  const [[l, t], [r, b]] = [local(corners(shape)[0]), local(corners(shape)[2])];
  let [left, top, right, bottom] = [l, t, r, b];
  const [u, v] = local([x, y]);
  const index = handle.index;
  if (handle.role === "corner" ? index === 0 || index === 3 : index === 3) left = u;
  if (handle.role === "corner" ? index === 1 || index === 2 : index === 1) right = u;
  if (handle.role === "corner" ? index < 2 : index === 0) top = v;
  if (handle.role === "corner" ? index >= 2 : index === 2) bottom = v;
  const [x0, x1, y0, y1] = [Math.min(left, right), Math.max(left, right), Math.min(top, bottom), Math.max(top, bottom)];
  if (shape.kind === "box") return { kind: "box", x: x0, y: y0, width: x1 - x0, height: y1 - y0 };
  const [mx, my] = [(x0 + x1) / 2, (y0 + y1) / 2];
  return { ...shape, cx: mx * c - my * s, cy: mx * s + my * c, width: x1 - x0, height: y1 - y0 };
}

function editRing(shape, { p, r }, change) {
  const parts = shape.parts.map((part, i) => (i === p ? part.map((ring, j) => (j === r ? [...ring] : ring)) : part));
  change(parts[p][r]);
  return { ...shape, parts };
}

/** Without a vertex; a ring of three goes whole, with its holes if it is an outer one; null when nothing is left. */
export function withoutVertex(shape, handle) {
  if (shape.parts[handle.p][handle.r].length > 3) return editRing(shape, handle, (ring) => ring.splice(handle.v, 1));
  const parts = handle.r === 0
    ? shape.parts.filter((_, index) => index !== handle.p)
    : shape.parts.map((part, index) => (index === handle.p ? part.filter((_, r) => r !== handle.r) : part));
  return parts.length ? { ...shape, parts } : null;
}

/** With one more ring: a part of its own, or a hole of the part that it lies in. */
export function withRing(shape, ring, hole) {
  if (!hole) return { ...shape, parts: [...shape.parts, [ring]] };
  const inside = shape.parts.findIndex((part) => inRings([part[0]], ...ring[0]));
  const home = inside < 0 ? 0 : inside;
  return { ...shape, parts: shape.parts.map((part, index) => (index === home ? [...part, ring] : part)) };
}

/** Which shapes are near a place: a grid of buckets over the image. */
export class Grid {
  constructor(width, height) {
    this.cell = Math.max(8, Math.max(width, height) / 64);
    this.cells = new Map();
    this.large = new Set();
    this.homes = new Map();
  }

  add(id, [left, top, right, bottom]) {
    const [x0, y0, x1, y1] = [left, top, right, bottom].map((value) => Math.floor(value / this.cell));
    if ((x1 - x0 + 1) * (y1 - y0 + 1) > 400) {
      this.large.add(id);
      this.homes.set(id, null);
      return;
    }
    const home = [];
    for (let x = x0; x <= x1; x += 1) {
      for (let y = y0; y <= y1; y += 1) {
        const key = `${x},${y}`;
        if (!this.cells.has(key)) this.cells.set(key, new Set());
        this.cells.get(key).add(id);
        home.push(key);
      }
    }
    this.homes.set(id, home);
  }

  remove(id) {
    for (const key of this.homes.get(id) ?? []) this.cells.get(key).delete(id);
    this.large.delete(id);
    this.homes.delete(id);
  }

  /** Ids of what may touch a rectangle. */
  near([left, top, right, bottom]) {
    const found = new Set(this.large);
    const [x0, y0, x1, y1] = [left, top, right, bottom].map((value) => Math.floor(value / this.cell));
    if ((x1 - x0 + 1) * (y1 - y0 + 1) > this.cells.size) {
      for (const id of this.homes.keys()) found.add(id);
      return found;
    }
    for (let x = x0; x <= x1; x += 1) {
      for (let y = y0; y <= y1; y += 1) for (const id of this.cells.get(`${x},${y}`) ?? []) found.add(id);
    }
    return found;
  }
}
