// The label set: names, colours, order (number keys follow it), attributes. Two people who edit it are told.

import { get, post } from "./api.js";
import { button, dialog, el, fill } from "./dom.js";
import { app, colorOf, emit } from "./state.js";
import { t } from "./strings.js";

const KINDS = ["text", "number", "checkbox", "select"];

/** Take a label set of the server. */
export function takeLabels({ version, labels }) {
  app.labels = labels;
  app.labelVersion = version;
  emit("labels");
}

/** The dialog in which the label set is changed. */
export function editLabels() {
  let rows = structuredClone(app.labels);
  let base = app.labelVersion;
  let opened = structuredClone(rows); // as they were when ours began to differ
  const body = el("div", { class: "label-editor" });
  const problem = el("p", { class: "bad-text", role: "alert" });

  const draw = () => fill(body, el("p", { class: "muted" }, t("labels.intro")), rows.map(row),
    button("plus", t("labels.add"), () => {
      rows.push({ name: "" });
      draw();
      [...body.querySelectorAll("input[data-name]")].at(-1).focus();
    }, t("labels.add")), problem);

  const row = (label, index) => el("div", { class: "label-row" },
    el("kbd", { class: index < 10 ? "" : "none" }, index < 10 ? (index + 1) % 10 : ""),
    el("input", { type: "color", value: label.color || colorOf(label.name), "aria-label": t("labels.color"), on: { input: (event) => { label.color = event.target.value.toLowerCase(); } } }),
    el("input", { type: "text", class: "field", value: label.name, placeholder: t("labels.name"), "aria-label": t("labels.name"), maxlength: 1000, data: { name: "1" }, on: { input: (event) => { label.name = event.target.value; } } }),
    button("left", t("labels.up"), () => { if (index) { [rows[index - 1], rows[index]] = [rows[index], rows[index - 1]]; draw(); } }, "", "quiet small up"),
    button("plus", t("labels.attribute"), () => { (label.attributes ??= []).push({ name: "" }); draw(); }, t("labels.attribute"), "small"),
    button("trash", t("labels.remove"), () => { rows.splice(index, 1); draw(); }, "", "quiet small bad"),
    (label.attributes ?? []).map((attribute, place) => attributeRow(label, attribute, place)));

  const attributeRow = (label, attribute, place) => el("div", { class: "attribute-row" },
    el("input", { type: "text", class: "field", value: attribute.name, placeholder: t("labels.attributeName"), maxlength: 1000, on: { input: (event) => { attribute.name = event.target.value; } } }),
    el("select", { class: "field", on: { change: (event) => { attribute.kind = event.target.value; if (attribute.kind !== "select") delete attribute.options; draw(); } } },
      KINDS.map((kind) => el("option", { value: kind, selected: kind === (attribute.kind ?? "text") }, t(`attribute.${kind}`)))),
    attribute.kind === "select" ? el("input", { type: "text", class: "field", value: (attribute.options ?? []).join(", "), placeholder: t("labels.options"), on: { input: (event) => { attribute.options = event.target.value.split(/[,，]/).map((each) => each.trim()).filter(Boolean); } } }) : null,
    button("trash", t("labels.remove"), () => { label.attributes.splice(place, 1); draw(); }, "", "quiet small bad"));

  const save = async () => {
    const kept = rows.filter((label) => label.name.trim()).map((label) => ({ ...label, name: label.name.trim() }));
    try {
      takeLabels(await post("/api/labels", { version: base, labels: kept }));
      close();
    } catch (error) {
      if (error.status !== 409) {
        problem.textContent = error.message;
        return;
      }
      const theirs = error.body.conflict; // somebody else was faster
      rows = merged(theirs.labels, kept, opened);
      opened = structuredClone(theirs.labels);
      base = theirs.version;
      draw();
      problem.textContent = t("labels.conflict");
    }
  };

  draw();
  const close = dialog(t("labels.edit"), body, [button("check", t("save"), save, t("save"), "primary")], { wide: true });
  if (!rows.length) body.querySelector("button").click();
}

/** Their labels with what was changed of ours since `opened`, and behind them what only ours has. */
function merged(theirs, ours, opened) {
  const find = (list, name) => list.find((label) => label.name === name);
  const both = theirs.map((label) => {
    const own = find(ours, label.name);
    if (!own || JSON.stringify(own) === JSON.stringify(find(opened, label.name))) return label;
    const more = (label.attributes ?? []).filter(({ name }) => !find(own.attributes ?? [], name));
    return { ...label, ...own, ...(more.length && { attributes: [...(own.attributes ?? []), ...more] }) };
  });
  return [...both, ...ours.filter(({ name }) => !find(theirs, name))];
}

/** Ask again for the label set, which somebody else may have changed. */
export async function refreshLabels() {
  try {
    const { labels } = await get("/api/session");
    if (labels.version !== app.labelVersion) takeLabels(labels);
  } catch (error) {
    emit("failed", error);
  }
}
