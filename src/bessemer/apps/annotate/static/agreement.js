// The dashboard of reviewers: how far people agree, who leans where, how far the work is, snapshots.

import { get, post } from "./api.js";
import { button, el, fill, toast } from "./dom.js";
import { colorOf } from "./state.js";
import { principleName, t } from "./strings.js";

export class Agreement {
  constructor() {
    this.node = el("main", { class: "dashboard", tabIndex: -1 });
  }

  async open() {
    fill(this.node, el("p", { class: "empty" }, t("agreement.computing")));
    const [found, progress, frozen] = await Promise.all([get("/api/agreement"), get("/api/progress"), get("/api/snapshots")]);
    fill(this.node, this.work(progress, frozen.snapshots), this.classes(found.shapes), this.principles(found.rankings), this.people(found.rankings.annotators));
  }

  work(progress, snapshots) {
    const states = ["doing", "submitted", "accepted", "rejected"];
    const table = grid(["", ...states.map((state) => t(`state.${state}`)), t("list.done")], Object.entries(progress.documents).map(([name, own]) => [
      name, ...states.map((state) => own[state] ?? 0), percent(((own.submitted ?? 0) + (own.accepted ?? 0)) / Math.max(1, progress.images)),
    ]));
    const freeze = async () => {
      try {
        const made = await post("/api/snapshots", { states: ["accepted"] }, false, 3600000);
        toast(t("agreement.frozen", made.hash.slice(0, 16)));
        this.open();
      } catch (error) {
        toast(error.message);
      }
    };
    return panel(t("agreement.work"), t("agreement.workNote", progress.images, progress.shapes, progress.undecided), table,
      el("div", { class: "actions" }, button("check", t("agreement.freeze"), freeze, t("agreement.freeze")),
        el("a", { class: "button", href: "/api/images.csv", download: "images.csv" }, t("agreement.csv"))),
      snapshots.length ? grid([t("agreement.snapshot"), t("history.time"), t("agreement.images"), t("history.shapes")], snapshots.map((each) => [
        el("code", {}, each.hash.slice(0, 16)), new Date(each.created).toLocaleString(), each.counts.images, each.counts.shapes])) : null);
  }

  classes(shapes) {
    const rows = shapes.classes.map((each) => {
      const swatch = el("span", { class: "swatch" });
      swatch.style.background = colorOf(each.label || null);
      return [el("span", {}, swatch, each.label || t("labels.unlabelled")), each.images, each.shapes, range(each.share, each.interval, 0, 1), each.iou === null ? "–" : each.iou.toFixed(2)];
    });
    return panel(t("agreement.classes"), t("agreement.classesNote", shapes.images),
      rows.length ? grid([t("list.label"), t("agreement.images"), t("history.shapes"), t("agreement.share"), t("agreement.iou")], rows) : el("p", { class: "muted" }, t("agreement.nobody")),
      shapes.mistaken.length ? el("p", {}, t("agreement.mistaken"), " ", shapes.mistaken.map((each) => el("span", { class: "chip" }, each.labels.map((label) => label || t("labels.unlabelled")).join(" / "), ` × ${each.count}`))) : null,
      shapes.scene.pairs ? el("p", {}, `${t("inspector.scene")}: ${percent(shapes.scene.share)} (${shapes.scene.pairs})`) : null);
  }

  principles(rankings) {
    const number = (value) => (value === null ? "–" : value.toFixed(2));
    const rows = rankings.principles.map((each) => [
      el("span", {}, principleName(each.name), each.flagged ? el("span", { class: "chip bad-text" }, t("agreement.flagged")) : null),
      each.annotators, each.pairs, range(each.pair_agreement, each.pair_interval, 0, 1), number(each.tau_b), range(each.alpha, each.alpha_interval, -1, 1), each.weight.toFixed(2),
    ]);
    return panel(t("agreement.principles"), t("agreement.principlesNote"), rows.length
      ? grid([t("agreement.principle"), t("agreement.annotators"), t("agreement.pairs"), t("agreement.raw"), "τ-b", "α", t("agreement.weight")], rows)
      : el("p", { class: "muted" }, t("agreement.noRankings")));
  }

  people(annotators) {
    const rows = annotators.map((each) => [each.name, each.tasks, range(each.position.share, each.position.interval, 0, 1, 0.5), range(each.length.share, each.length.interval, 0, 1, 0.5)]);
    return panel(t("agreement.bias"), t("agreement.biasNote"), rows.length
      ? grid([t("agreement.annotator"), t("agreement.questions"), t("agreement.position"), t("agreement.length")], rows)
      : el("p", { class: "muted" }, t("agreement.noRankings")));
  }
}

const percent = (share) => (share === null ? "–" : `${Math.round(share * 100)} %`);

const panel = (title, note, ...body) => el("section", { class: "panel" }, el("h2", {}, title), el("p", { class: "muted" }, note), body);

function grid(head, rows) {
  return el("table", { class: "table" }, el("thead", {}, el("tr", {}, head.map((text) => el("th", { scope: "col" }, text)))),
    el("tbody", {}, rows.map((row) => el("tr", {}, row.map((cell) => el("td", {}, cell))))));
}

/** A number with its interval, drawn as a whisker between two ends; `even` marks the value of no leaning. */
function range(value, interval, low, high, even = null) {
  if (value === null || !Number.isFinite(value)) return "–";
  const at = (number) => `${(100 * (Math.min(high, Math.max(low, number)) - low)) / (high - low)}%`;
  const track = el("span", { class: "track" });
  const piece = (kind, left, right = null) => {
    const node = el("span", { class: kind });
    node.style.left = at(left);
    if (right !== null) node.style.width = `${(100 * (Math.min(high, right) - Math.max(low, left))) / (high - low)}%`;
    track.append(node);
  };
  if (even !== null) piece("even", even);
  if (interval) piece("whisker", interval[0], interval[1]);
  piece("value", value);
  const ends = interval ? ` (${interval[0].toFixed(2)} – ${interval[1].toFixed(2)})` : "";
  return el("span", { class: "range" }, track, el("span", {}, el("strong", {}, value.toFixed(2)), el("span", { class: "muted" }, ends)));
}
