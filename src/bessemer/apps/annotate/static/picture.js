// The pixels of an image: a preview at once, tiles of the pyramid where it is looked at more closely.

import { picture } from "./api.js";
import { emit } from "./state.js";

const TILE = 1024; // as the server cuts them
const PREVIEW = 1600;
const KEPT = 80; // tiles

const previews = new Map(); // image id -> promise of a bitmap; the last few, the next ones ahead of time

function preview(id) {
  const known = previews.get(id);
  if (known) {
    previews.delete(id); // the one used last goes last
    previews.set(id, known);
  } else {
    const coming = picture(`/api/images/${id}/preview`);
    coming.catch(() => previews.delete(id));
    previews.set(id, coming);
    while (previews.size > 8) {
      const [oldest, bitmap] = previews.entries().next().value;
      previews.delete(oldest);
      bitmap.then((each) => setTimeout(() => each.close(), 20000), () => undefined);
    }
  }
  return previews.get(id);
}

/** Ask for what will be looked at next. */
export function prefetch(ids) {
  for (const id of ids) preview(id).catch(() => undefined);
}

export class Picture {
  constructor(image, redraw) {
    this.image = image;
    this.redraw = redraw;
    this.tiles = new Map();
    this.stop = new AbortController();
    preview(image.id).then(
      (bitmap) => {
        this.base = bitmap;
        emit("picture", image.id);
        redraw();
      },
      (error) => {
        this.error = error.message;
        emit("picture-error", { id: image.id, message: error.message });
      },
    );
  }

  close() {
    this.stop.abort();
    for (const tile of this.tiles.values()) tile.bitmap?.close();
    this.tiles.clear();
  }

  /** Draw what is in sight (pixels of the image) at `scale` screen pixels a pixel. */
  draw(context, scale, [left, top, right, bottom]) {
    const { width, height } = this.image;
    if (!this.base) {
      context.fillStyle = "#1b1e24";
      context.fillRect(0, 0, width, height);
      return;
    }
    context.imageSmoothingEnabled = scale < 3;
    context.imageSmoothingQuality = "high";
    context.drawImage(this.base, 0, 0, width, height);
    const small = PREVIEW / Math.max(width, height);
    if (small >= 1 || scale <= small * 1.15) return;
    const level = Math.max(0, Math.min(8, Math.floor(Math.log2(1 / scale))));
    const step = TILE * 2 ** level;
    for (let row = Math.max(0, Math.floor(top / step)); row * step < Math.min(bottom, height); row += 1) {
      for (let column = Math.max(0, Math.floor(left / step)); column * step < Math.min(right, width); column += 1) {
        const tile = this.tile(level, column, row);
        if (tile.bitmap) {
          const [x, y] = [column * step, row * step];
          context.drawImage(tile.bitmap, x, y, Math.min(step, width - x), Math.min(step, height - y));
        }
      }
    }
  }

  tile(level, column, row) {
    const key = `${level}/${column}/${row}`;
    let tile = this.tiles.get(key);
    if (tile) {
      this.tiles.delete(key);
      this.tiles.set(key, tile);
      return tile;
    }
    tile = { bitmap: null };
    this.tiles.set(key, tile);
    picture(`/api/images/${this.image.id}/tiles/${key}`, this.stop.signal).then(
      (bitmap) => {
        tile.bitmap = bitmap;
        this.redraw();
      },
      () => setTimeout(() => this.tiles.delete(key), 2000),
    );
    while (this.tiles.size > KEPT) {
      const [oldest, gone] = this.tiles.entries().next().value;
      this.tiles.delete(oldest);
      gone.bitmap?.close();
    }
    return tile;
  }
}
