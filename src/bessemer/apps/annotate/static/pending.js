// Ranks on their way to the server, question by question. They are drafts of this browser until every principle is
// done; then they are sent until the server has them. What another tab saved meanwhile is shown, never overwritten.

import { get, post } from "./api.js";
import { drafts } from "./outbox.js";
import { emit, worst } from "./state.js";

const RETRY = 2000; // milliseconds
const waiting = new Map(); // id of a question -> {turn, draft: {ranks, skipped}, state, flying}
let timer = null;

const keyOf = (id) => `rank/${id}`;

const complete = ({ ranks, skipped }) =>
  Object.keys(ranks).every((name) => skipped.includes(name) || ranks[name].every((rank) => rank !== null));

const said = ({ ranks, skipped }) =>
  JSON.stringify(Object.entries(ranks).map(([name, list]) => (skipped.includes(name) ? name : [name, list])));

/** Whether two drafts say the same; the ranks of a principle that is skipped say nothing. */
export const alikeRanks = (one, other) => said(one) === said(other);

/** Keep ranks of a question; `turn` is {number, id, version, shown_order} as the server told them. */
export function keepRanks(turn, ranks, skipped) {
  const entry = waiting.get(turn.id) ?? { flying: false };
  const draft = { ranks: { ...ranks }, skipped: [...skipped] };
  Object.assign(entry, { turn, draft, state: complete(draft) ? "saving" : "draft" });
  waiting.set(turn.id, entry);
  announce();
  send(entry);
}

/** What was ranked and is not at the server yet: {version, ranks, skipped}, or undefined. */
export async function draftOf(id) {
  const entry = waiting.get(id);
  return entry ? { ...entry.draft, version: entry.turn.version } : drafts.get(keyOf(id));
}

export function forgetRanks(id) {
  waiting.delete(id);
  announce();
  return drafts.drop(keyOf(id));
}

/** Send what an earlier page completed and could not send. */
export async function resumeRanks() {
  const kept = (await drafts.all(keyOf(""))).filter(({ value }) => value.shown_order && complete(value));
  if (!kept.length) return;
  const { tasks } = await get("/api/rankings");
  for (const { key, value: { ranks, skipped, version, shown_order } } of kept) {
    const { number, id } = tasks.find((task) => keyOf(task.id) === key) ?? {};
    if (number && !waiting.has(id)) keepRanks({ number, id, version, shown_order }, ranks, skipped);
  }
}

async function send(entry) {
  if (entry.flying) return;
  entry.flying = true;
  let sent = null;
  while (sent !== entry.draft && waiting.get(entry.turn.id) === entry) {
    sent = entry.draft;
    const { turn } = entry;
    await drafts.put(keyOf(turn.id), { ...sent, version: turn.version, shown_order: turn.shown_order });
    if (!complete(sent)) continue;
    entry.state = "saving";
    announce();
    try {
      const { version } = await post(`/api/rankings/${turn.number}/save`, bodyOf(turn, sent));
      turn.version = entry.turn.version = version;
      emit("ranked", { id: turn.id, version });
      if (entry.draft === sent) forgetRanks(turn.id);
    } catch (error) {
      fail(entry, error);
      break;
    }
  }
  entry.flying = false;
  announce();
}

function bodyOf({ version, shown_order }, { ranks, skipped }) {
  const judged = Object.entries(ranks).filter(([name]) => !skipped.includes(name));
  const places = (list) => list.map((rank) => (rank === "cannot" ? null : rank));
  return { version, shown_order, ranks: Object.fromEntries(judged.map(([name, list]) => [name, places(list)])) };
}

function fail(entry, error) {
  const { status = 0 } = error;
  const again = !status || status === 401 || status === 429 || status >= 500;
  entry.state = status === 401 ? "out" : again ? "offline" : status === 409 ? "conflict" : "refused";
  if (again) timer ??= setTimeout(retry, RETRY);
  else if (status === 409) emit("ranks-conflict", { ...entry, theirs: error.body.conflict });
  else emit("failed", error);
}

function retry() {
  timer = null;
  for (const entry of waiting.values()) if (["out", "offline"].includes(entry.state)) send(entry);
}

function announce() {
  const state = worst([...waiting.values()].map((entry) => entry.state));
  emit("save-state", { of: "ranks", state, waiting: waiting.size });
}
