// What is not a shape yet: the frame of a selection, the crosshair, the points placed so far and the line to the cursor.

import { boxFrom, rotatedFrom } from "./shapes.js";

/** Draw the unfinished work of the tools, in pixels of the image. */
export function sketch(context, tools) {
  const { view, cursor, gesture } = tools;
  context.lineWidth = 1.5 / view.scale;
  if (gesture?.kind === "marquee") {
    if (gesture.moved && cursor) marquee(context, view, boxFrom(view.toImage(gesture.from), cursor));
    return;
  }
  if (!cursor) return;
  const here = tools.clamp(cursor);
  crosshair(context, view, here, tools.keyed);
  context.strokeStyle = "#ffffff";
  context.fillStyle = "rgba(255,255,255,.12)";
  const points = gesture?.kind === "box" && gesture.moved ? [tools.clamp(gesture.start)] : tools.points;
  if (points.length) unfinished(context, view, tools.tool, points, here);
}

function marquee(context, view, frame) {
  context.setLineDash([4 / view.scale, 3 / view.scale]);
  context.strokeStyle = "#ffffff";
  context.strokeRect(frame.x, frame.y, frame.width, frame.height);
  context.setLineDash([]);
}

function unfinished(context, view, tool, points, here) {
  context.beginPath();
  if (tool === "box") {
    const frame = boxFrom(points[0], here);
    context.rect(frame.x, frame.y, frame.width, frame.height);
    context.fill();
  } else {
    points.forEach(([x, y], index) => (index ? context.lineTo(x, y) : context.moveTo(x, y)));
    context.lineTo(...here);
    if (tool === "rotated" && points.length === 2) {
      const { cx, cy } = rotatedFrom(...points, here);
      context.moveTo(...points[0]);
      context.lineTo(2 * cx - points[1][0], 2 * cy - points[1][1]);
      context.lineTo(2 * cx - points[0][0], 2 * cy - points[0][1]);
      context.lineTo(...points[1]);
    } else if (tool === "polygon") context.fill();
  }
  context.stroke();
  for (const [x, y] of tool === "box" ? [] : points) {
    context.beginPath();
    context.arc(x, y, 3.5 / view.scale, 0, 7);
    context.fillStyle = "#ffffff";
    context.fill();
  }
}

function crosshair(context, view, [x, y], keyed) {
  const { width, height } = view.doc.image;
  context.save();
  context.lineWidth = 1 / view.scale;
  context.strokeStyle = keyed ? "#f2a33c" : "rgba(255,255,255,.35)";
  context.beginPath();
  context.moveTo(0, y);
  context.lineTo(width, y);
  context.moveTo(x, 0);
  context.lineTo(x, height);
  context.stroke();
  context.restore();
}
