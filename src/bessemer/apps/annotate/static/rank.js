// Ranking: one question, its answers in an order of one's own, a column a principle. Equal ranks are ties; "cannot
// judge" is said for an answer, "not applicable" for a whole principle. Unfinished work stays in this browser; what
// is complete goes to the server at once.

import { get } from "./api.js";
import { button, dialog, el, fill, toast } from "./dom.js";
import { marked } from "./diff.js";
import { alikeRanks, draftOf, forgetRanks, keepRanks, resumeRanks } from "./pending.js";
import { emit, keepSetting, on, setting } from "./state.js";
import { principleName, t } from "./strings.js";

const LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ";

export class Ranking {
  constructor() {
    this.number = setting("rank", 1); // of the question shown
    this.asked = this.number; // of the one that is being loaded, or shown
    this.column = 0;
    this.answer = 0;
    this.diff = setting("diff", true);
    this.list = el("div", { class: "task-list" });
    this.main = el("main", { class: "ranking", tabIndex: -1 });
    this.node = el("div", { class: "rank-view" }, el("aside", { class: "list" }, el("div", { class: "list-head" }, this.summary = el("div", { class: "summary" }), this.bar = el("div", { class: "meter" })), this.list), this.main);
    this.done = [];
    this.undone = [];
    this.tasks = [];
    on("ranked", ({ id, version }) => {
      const task = this.tasks.find((each) => each.id === id);
      if (task) task.version = version;
      this.drawList();
    });
    on("ranks-conflict", ({ turn, draft, theirs }) => this.conflict(turn, draft, theirs));
  }

  async open() {
    const { tasks } = await get("/api/rankings");
    this.tasks = tasks;
    resumeRanks().catch((error) => emit("failed", error));
    this.drawList();
    if (!tasks.length) {
      fill(this.main, el("p", { class: "empty" }, t("rank.none")));
      return;
    }
    await this.load(Math.min(Math.max(1, this.number), tasks.length));
  }

  drawList() {
    const done = this.tasks.filter((task) => task.version).length;
    fill(this.summary, el("strong", {}, `${done} / ${this.tasks.length}`), ` ${t("list.done")}`);
    const piece = el("span", { class: "piece accepted" });
    piece.style.width = `${(100 * done) / Math.max(1, this.tasks.length)}%`;
    fill(this.bar, piece);
    fill(this.list, this.tasks.map((task) => el("button", {
      type: "button", class: task.number === this.number ? "row task current" : "row task", on: { click: () => this.load(task.number) },
    }, el("span", { class: `dot ${task.version ? "accepted" : "todo"}` }), el("span", { class: "row-name", title: task.id }, `${task.number}. ${task.id}`))));
  }

  async load(number) {
    this.asked = number;
    let turn;
    try {
      turn = { ...(await get(`/api/rankings/${number}`)), number };
    } catch (error) {
      if (this.asked === number) this.asked = this.number;
      emit("failed", error);
      return;
    }
    const draft = await draftOf(turn.id);
    if (this.asked !== number) return;
    this.number = number;
    this.turn = turn;
    keepSetting("rank", number);
    const saved = ranksOf(turn);
    const ranked = (name) => Object.hasOwn(draft.ranks, name) && draft.ranks[name].length === turn.responses.length;
    const fits = draft && turn.principles.every(ranked);
    const same = fits && alikeRanks(draft, saved);
    const own = fits && !same && draft.version === turn.version;
    this.ranks = { ...(own ? draft : saved).ranks };
    this.skipped = new Set((own ? draft : saved).skipped);
    this.done = [];
    this.undone = [];
    this.column = 0;
    this.answer = 0;
    this.drawList();
    this.draw();
    this.list.children[number - 1]?.scrollIntoView({ block: "nearest" });
    this.main.focus();
    if (own) keepRanks(turn, this.ranks, this.skipped);
    else if (same) forgetRanks(turn.id);
    else if (fits) this.conflict(turn, draft, turn);
  }

  get principle() {
    return this.turn.principles[this.column];
  }

  snapshot() {
    return JSON.stringify({ ranks: this.ranks, skipped: [...this.skipped] });
  }

  take(text) {
    const { ranks, skipped } = JSON.parse(text);
    this.ranks = ranks;
    this.skipped = new Set(skipped);
    this.changed();
  }

  change(work) {
    this.done.push(this.snapshot());
    this.undone = [];
    work();
    this.changed();
  }

  undo() {
    if (!this.done.length) return;
    this.undone.push(this.snapshot());
    this.take(this.done.pop());
  }

  redo() {
    if (!this.undone.length) return;
    this.done.push(this.snapshot());
    this.take(this.undone.pop());
  }

  /** Rank of the answer shown at a place: a number, "cannot", or null for not ranked. */
  rank(place, value, column = this.column) {
    const principle = this.turn.principles[column];
    this.change(() => {
      this.skipped.delete(principle);
      this.ranks[principle] = this.ranks[principle].with(this.turn.shown_order[place], value);
    });
  }

  tie() {
    if (!this.answer) return;
    const above = this.ranks[this.principle][this.turn.shown_order[this.answer - 1]];
    if (above !== null) this.rank(this.answer, above);
  }

  skip(column = this.column) {
    const principle = this.turn.principles[column];
    this.change(() => (this.skipped.has(principle) ? this.skipped.delete(principle) : this.skipped.add(principle)));
  }

  isDone(principle) {
    return this.skipped.has(principle) || this.ranks[principle].every((rank) => rank !== null);
  }

  changed() {
    this.draw();
    keepRanks(this.turn, this.ranks, this.skipped);
  }

  /** Ranks of this browser and other ones that the server has, of the question that `turn` is of. */
  conflict(turn, draft, theirs) {
    const sign = (rank) => (rank === "cannot" ? "?" : rank ?? "–");
    const row = (name) => el("tr", {}, el("td", {}, principleName(name)),
      el("td", {}, draft.skipped.includes(name) ? t("rank.skipped") : draft.ranks[name].map(sign).join(" ")),
      el("td", {}, Object.hasOwn(theirs.ranks, name) ? theirs.ranks[name].map((rank) => rank ?? "?").join(" ") : t("rank.skipped")));
    const which = el("p", { class: "muted" }, `${turn.number}. ${turn.id}`);
    const body = el("div", {}, el("p", {}, t("rank.conflict")), which, el("table", { class: "table" },
      el("thead", {}, el("tr", {}, el("th", {}, ""), el("th", {}, t("conflict.here")), el("th", {}, t("conflict.there")))), el("tbody", {}, Object.keys(draft.ranks).map(row))));
    const shown = () => this.turn?.id === turn.id;
    const takeTheirs = async () => {
      close();
      await forgetRanks(turn.id);
      if (shown()) this.load(this.number);
    };
    const takeYours = () => {
      close();
      const own = shown() ? this.turn : turn;
      own.version = theirs.version;
      keepRanks(own, draft.ranks, draft.skipped);
      if (!shown()) return;
      this.ranks = { ...draft.ranks };
      this.skipped = new Set(draft.skipped);
      this.draw();
    };
    const close = dialog(t("conflict.title"), body, [
      button("", t("conflict.takeTheirs"), takeTheirs, t("conflict.takeTheirs")),
      button("check", t("conflict.takeYours"), takeYours, t("conflict.takeYours"), "primary"),
    ], { must: true });
  }

  go(step) {
    const next = this.asked + step;
    if (next >= 1 && next <= this.tasks.length) this.load(next);
    else toast(t("rank.last"));
  }

  draw() {
    const { turn } = this;
    const scroll = this.main.scrollTop;
    fill(this.main,
      el("div", { class: "question" },
        turn.images.map((id) => (id === null ? el("p", { class: "muted" }, t("rank.noImage")) : questionImage(id))),
        el("div", { class: "messages" }, turn.messages.map((message) => el("p", { class: `message ${message.role}` }, el("span", { class: "role" }, t(`role.${message.role}`)), message.text)))),
      el("div", { class: "rank-bar" },
        el("span", { class: "muted" }, t("rank.keys", turn.responses.length)),
        button("contrast", `${t("rank.diff")} (D)`, () => this.toggleDiff(), t("rank.diff"), this.diff ? "on" : ""),
        button("left", t("key.image.previous"), () => this.go(-1)),
        button("right", t("key.image.next"), () => this.go(1), t("rank.next"), this.isComplete() ? "primary" : "")),
      el("div", { class: "answers" }, turn.shown_order.map((answer, place) => this.card(answer, place))),
      el("div", { class: "columns" }, turn.principles.map((name, column) => this.columnOf(name, column))));
    this.main.scrollTop = scroll;
  }

  isComplete() {
    return this.turn.principles.every((name) => this.isDone(name));
  }

  toggleDiff() {
    this.diff = !this.diff;
    keepSetting("diff", this.diff);
    this.draw();
  }

  card(answer, place) {
    const text = this.turn.responses[answer];
    const against = this.turn.responses[this.turn.shown_order[this.answer]];
    const chosen = place === this.answer;
    return el("article", { class: chosen ? "answer chosen" : "answer", data: { place }, on: { click: () => { this.answer = place; this.draw(); } } },
      el("header", {}, el("span", { class: "letter" }, LETTERS[place]), el("span", { class: "muted" }, t("rank.characters", [...text].length))),
      el("div", { class: "answer-text" }, this.diff && !chosen ? marked(text, against) : text));
  }

  columnOf(name, column) {
    const ranks = this.ranks[name];
    const skipped = this.skipped.has(name);
    const k = ranks.length;
    const tiers = [null, ...Array.from({ length: k }, (_, index) => index + 1), "cannot"];
    return el("section", { class: `principle${column === this.column ? " chosen" : ""}${this.isDone(name) ? " done" : ""}${skipped ? " skipped" : ""}`, data: { principle: column }, on: { pointerdown: () => { if (this.column !== column) { this.column = column; this.main.querySelectorAll(".principle").forEach((node, index) => node.classList.toggle("chosen", index === column)); } } } },
      el("header", {}, el("h3", { title: name }, principleName(name)), button("", `${t("rank.skip")} (N)`, () => this.skip(column), t("rank.skipShort"), skipped ? "small on" : "small")),
      tiers.map((tier) => {
        const here = this.turn.shown_order.map((answer, place) => [answer, place]).filter(([answer]) => ranks[answer] === tier);
        if (tier === null && !here.length) return null;
        const title = tier === null ? t("rank.open") : tier === "cannot" ? t("rank.cannot") : String(tier);
        return el("div", { class: `tier${tier === null ? " open" : ""}${tier === "cannot" ? " cannot" : ""}`, data: { tier: String(tier), column } }, el("span", { class: "tier-name" }, title),
          here.map(([, place]) => this.chip(place, column)));
      }));
  }

  chip(place, column) {
    const node = el("button", { type: "button", class: place === this.answer && column === this.column ? "chip-letter chosen" : "chip-letter", title: t("rank.drag"), data: { place, column } }, LETTERS[place]);
    node.addEventListener("pointerdown", (event) => this.grab(event, node, place, column));
    return node;
  }

  /** Drag a letter to a rank; dropped where another one is, it is a tie. A press without a drag chooses the answer. */
  grab(event, node, place, column) {
    if (event.button !== 0) return;
    event.preventDefault();
    const start = [event.clientX, event.clientY];
    let ghost = null;
    const over = (point) => document.elementsFromPoint(point.clientX, point.clientY).map((each) => each.closest?.(".tier")).find((tier) => tier && Number(tier.dataset.column) === column);
    const move = (point) => {
      if (!ghost && Math.hypot(point.clientX - start[0], point.clientY - start[1]) > 4) {
        ghost = document.body.appendChild(el("div", { class: "chip-letter ghost" }, LETTERS[place]));
        node.classList.add("away");
      }
      if (!ghost) return;
      ghost.style.left = `${point.clientX}px`;
      ghost.style.top = `${point.clientY}px`;
      this.main.querySelectorAll(".tier.over").forEach((each) => each.classList.remove("over"));
      over(point)?.classList.add("over");
    };
    const ending = new AbortController();
    const end = (point) => {
      ending.abort();
      ghost?.remove();
      this.answer = place;
      this.column = column;
      const tier = ghost && over(point)?.dataset.tier;
      if (tier) this.rank(place, tier === "null" ? null : tier === "cannot" ? "cannot" : Number(tier), column);
      else this.draw();
    };
    const cancel = () => {
      ending.abort();
      ghost?.remove();
      this.draw();
    };
    const handlers = { pointermove: move, pointerup: end, pointercancel: cancel };
    for (const [name, handler] of Object.entries(handlers)) addEventListener(name, handler, ending);
  }

  /** A key of this page; true when it did something. */
  key(event, action) {
    if (!this.turn) return false;
    const k = this.turn.responses.length;
    const plain = !event.ctrlKey && !event.altKey && !event.metaKey;
    if (action === "edit.undo") this.undo();
    else if (action === "edit.redo") this.redo();
    else if (action === "image.next" || action === "image.submit" || action === "image.skip") this.go(1);
    else if (action === "image.previous") this.go(-1);
    else if (!plain) return false;
    else if (event.key === "ArrowRight") this.column = (this.column + 1) % this.turn.principles.length;
    else if (event.key === "ArrowLeft") this.column = (this.column + this.turn.principles.length - 1) % this.turn.principles.length;
    else if (event.key === "ArrowDown") this.answer = (this.answer + 1) % k;
    else if (event.key === "ArrowUp") this.answer = (this.answer + k - 1) % k;
    else if (/^[1-9]$/.test(event.key) && Number(event.key) <= k) {
      this.rank(this.answer, Number(event.key));
      this.answer = Math.min(k - 1, this.answer + 1);
    } else if (event.key === "0") this.rank(this.answer, "cannot");
    else if (event.key === "t") this.tie();
    else if (event.key === "n") this.skip();
    else if (event.key === "d") this.toggleDiff();
    else if (event.key === "Enter" && event.target.tagName !== "BUTTON") this.isComplete() ? this.go(1) : this.nextColumn();
    else return false;
    this.draw();
    return true;
  }

  nextColumn() {
    const open = this.turn.principles.findIndex((name) => !this.isDone(name));
    if (open >= 0) this.column = open;
    this.answer = 0;
  }
}

/** The ranks that the server has; a principle without any was skipped, or nothing was saved yet. */
function ranksOf({ principles, ranks, responses, version }) {
  const saved = (name) => Object.hasOwn(ranks, name);
  const of = (name) => (saved(name) ? ranks[name].map((rank) => rank ?? "cannot") : responses.map(() => null));
  const own = Object.fromEntries(principles.map((name) => [name, of(name)])); // own keys, whatever a name is
  return { ranks: own, skipped: principles.filter((name) => version && !saved(name)) };
}

function questionImage(id) {
  const node = el("img", { class: "question-image", alt: t("rank.image") });
  node.src = `/api/images/${id}/preview`;
  node.addEventListener("click", () => node.classList.toggle("large"));
  return node;
}
