// Earlier versions of a document, what came too late to be one, and what reviewers said.

import { get, post } from "./api.js";
import { button, dialog, el } from "./dom.js";
import { paint } from "./conflict.js";
import { settle } from "./outbox.js";
import { emit } from "./state.js";
import { t } from "./strings.js";

/** The dialog of a document's history. `reload` opens the image again; `adopt(annotations)` adds some. */
export async function showHistory(doc, reload, adopt) {
  await settle(doc.image.id, doc.version);
  const found = await get(`/api/images/${doc.image.id}/history`);
  const canvas = document.createElement("canvas");
  canvas.width = 460;
  canvas.height = 330;
  const failed = (error) => emit("failed", error);
  const show = (version) => get(`/api/images/${doc.image.id}/versions/${version}`)
    .then(({ annotations }) => paint(canvas, doc.image, annotations, new Set())).catch(failed);
  const restore = (version) => post(`/api/images/${doc.image.id}/restore`, { earlier: version, version: doc.version })
    .then(() => { close(); reload(); }).catch(failed);
  const line = (entry) => el("tr", { on: { mouseenter: () => show(entry.version) } },
    el("td", {}, entry.version), el("td", {}, when(entry.time)), el("td", {}, entry.shapes),
    el("td", {}, entry.restored ? t("history.from", entry.restored) : ""),
    el("td", {}, button("eye", t("history.show"), () => show(entry.version), "", "quiet small"),
      entry.version === doc.version ? t("history.now") : button("history", t("history.restore"), () => restore(entry.version), t("history.restore"), "small")));
  const head = el("thead", {}, el("tr", {}, ["history.version", "history.time", "history.shapes", "", ""].map((key) => el("th", {}, key && t(key)))));
  const body = el("div", { class: "history" },
    el("div", { class: "scroll" }, el("table", { class: "table" }, head, el("tbody", {}, [...found.versions].reverse().map(line)))),
    canvas,
    found.reviews.length ? el("section", {}, el("h3", {}, t("history.reviews")), found.reviews.map((review) => el("p", {},
      el("strong", {}, `${review.reviewer}: ${t(`state.${review.verdict}`)}`), ` (${t("history.version")} ${review.version}) `, review.comment))) : null,
    found.conflicts.length ? el("section", {}, el("h3", {}, t("history.late")), found.conflicts.map((late) => el("p", {},
      when(late.updated), ` · ${late.annotations.length} `, button("plus", t("history.adopt"), () => { close(); adopt(late.annotations); }, t("history.adopt"), "small")))) : null);
  const close = dialog(t("history.title"), body, [], { wide: true });
  if (found.versions.length) show(doc.version);
}

const when = (time) => new Date(time).toLocaleString();
