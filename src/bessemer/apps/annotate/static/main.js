// The beginning: who is here, the bar at the top, the pages, and the way of every key.

import { get, setPerson } from "./api.js";
import { Agreement } from "./agreement.js";
import { button, el, fill, toast } from "./dom.js";
import { Drawing } from "./draw.js";
import { actionOf, showHelp, withKey } from "./keys.js";
import { refreshLabels, takeLabels } from "./labels.js";
import { flush, startOutbox } from "./outbox.js";
import { resumeRanks } from "./pending.js";
import { Ranking } from "./rank.js";
import { app, emit, keepSetting, on, setting, worst } from "./state.js";
import { language, setLanguage, t } from "./strings.js";

const pages = {};
const saving = {}; // "images", "ranks", "person" -> {state, waiting}
const ONCE = ["image.submit", "image.skip", "prediction.accept", "prediction.reject"]; // a key held down is one
let saveLine;
let navigation;

async function start() {
  document.documentElement.dataset.theme = setting("theme", "dark");
  let session;
  try {
    session = await get("/api/session");
  } catch (error) {
    setLanguage(setting("language", "auto"));
    fill(document.getElementById("app"), el("p", { class: "empty" }, error.status === 401 ? t("out.long") : error.message));
    return;
  }
  app.session = session;
  setPerson(session.annotator);
  setLanguage(setting("language", session.language));
  takeLabels(session.labels);
  on("save-state", showSaved);
  saveLine = el("span", { class: "save-state", role: "status", "aria-live": "polite" });
  await startOutbox();
  document.title = `${session.project} · bessemer`;
  navigation = el("nav", { class: "pages" });
  pages.draw = new Drawing();
  pages.rank = new Ranking();
  if (session.reviews) pages.agreement = new Agreement();
  fill(document.getElementById("app"), top(), el("div", { class: "page" }, Object.entries(pages).map(([name, page]) => { page.node.hidden = name !== "draw"; return page.node; })));
  on("failed", (error) => {
    toast(error.message);
    if (error.status === 401) showSaved({ of: "person", state: "out", waiting: 0 });
  });
  on("unsaved", ({ status, message }) => { if (status && status !== 401 && status !== 429) toast(t("save.refused", message), null, 12); });
  addEventListener("keydown", keydown);
  addEventListener("keyup", (event) => { if (event.key === " ") pages.draw.tools.space = false; });
  addEventListener("focus", () => refreshLabels());
  showSaved();
  drawNavigation();
  await pages.draw.start();
  await show(setting("page", "draw"));
  flush();
  await resumeRanks().catch((error) => emit("failed", error));
  document.body.dataset.ready = "1";
}

function top() {
  const theme = () => {
    const next = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
    document.documentElement.dataset.theme = next;
    keepSetting("theme", next);
  };
  const other = language() === "zh" ? "en" : "zh";
  const speak = () => {
    keepSetting("language", other);
    flush().then(() => location.reload());
  };
  return el("header", { class: "top" }, el("span", { class: "project", title: app.session.project }, app.session.project), navigation, el("span", { class: "push" }), saveLine,
    el("span", { class: "person", title: t("person") }, app.session.annotator),
    el("button", { type: "button", class: "button quiet", lang: other, on: { click: speak } }, other === "zh" ? "中文" : "English"),
    button("contrast", t("theme"), theme, "", "quiet"), button("help", withKey(t("help.title"), "help.show"), showHelp, "", "quiet"));
}

function drawNavigation() {
  const tab = (name, on_, work, action) => el("button", { type: "button", class: on_ ? "tab on" : "tab", "aria-current": on_ ? "page" : null, data: { page: name }, title: withKey(t(`page.${name}`), action), on: { click: work } }, t(`page.${name}`));
  fill(navigation, tab("draw", app.view === "draw" && !app.reviewing, () => show("draw", false), "page.draw"), tab("rank", app.view === "rank", () => show("rank"), "page.rank"),
    app.session.reviews ? [tab("review", app.view === "draw" && app.reviewing, () => show("draw", true), "page.review"), tab("agreement", app.view === "agreement", () => show("agreement"), "page.agreement")] : null);
}

async function show(name, reviewing = app.reviewing) {
  const page = pages[name] ? name : "draw";
  app.view = page;
  keepSetting("page", page);
  for (const [each, { node }] of Object.entries(pages)) node.hidden = each !== page;
  try {
    if (page === "draw" && reviewing !== app.reviewing) await pages.draw.setReviewing(reviewing && app.session.reviews);
    drawNavigation();
    showSaved();
    if (page === "draw") pages.draw.view.resize();
    else await pages[page].open();
  } catch (error) {
    emit("failed", error);
  }
}

/** How the saving of everything stands: the worst of it. A ranking that is not finished yet is said where one ranks. */
function showSaved({ of, ...news } = {}) {
  if (of) delete saving.person; // whoever speaks now was let in, or says so
  if (of) saving[of] = news;
  const shown = Object.values(saving).filter(({ state }) => state !== "draft" || app.view === "rank");
  const state = worst(shown.map((each) => each.state));
  saveLine.className = `save-state ${state}`;
  saveLine.dataset.state = state;
  const count = shown.reduce((sum, { waiting }) => sum + waiting, 0);
  fill(saveLine, el("span", { class: "dot" }), t(`save.${state}`, count));
  saveLine.title = t(`save.${state}.long`);
}

function keydown(event) {
  if (event.defaultPrevented || event.isComposing || document.querySelector("dialog[open]")) return;
  const typing = event.target.matches?.("input:not([type=range]):not([type=checkbox]):not([type=color]), textarea, select");
  const action = actionOf(event);
  const always = ["image.submit", "image.skip", "page.draw", "page.rank", "page.agreement", "page.review"];
  if (typing && !always.includes(action)) return;
  if (event.key === " " && !event.ctrlKey && app.view === "draw" && !event.target.matches?.("button, input")) {
    pages.draw.tools.space = true;
    event.preventDefault();
    return;
  }
  if (event.repeat && ONCE.includes(action) || handled(event, action)) event.preventDefault();
}

function handled(event, action) {
  if (action === "help.show") showHelp();
  else if (action === "page.draw") show("draw", false);
  else if (action === "page.rank") show("rank");
  else if (action === "page.agreement") show("agreement");
  else if (action === "page.review") show("draw", !app.reviewing);
  else if (app.view === "rank") return pages.rank.key(event, action);
  else if (app.view === "draw") return pages.draw.key(event, action);
  else return false;
  return true;
}

start();
