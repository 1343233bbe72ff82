// Edits on their way to the disk of the server. Each is first in IndexedDB, so that neither a crash of the page nor a
// server that is away loses it. One request an image at a time; what comes late is shown, never overwritten.

import { ApiError, post } from "./api.js";
import { app, emit, newId } from "./state.js";

const STORE = "outbox";
const DRAFTS = "drafts";
let database = null;
let tab = "";
const entries = new Map(); // image -> entry {key, tab, project, annotator, image, base, annotations, decisions, stamp, sent}
const flying = new Map(); // image -> promise
const stuck = new Map(); // image -> the refused entry of a conflict that nobody has resolved yet
const late = new Map(); // image -> entries that something newer was saved over; the server keeps them as conflicts
const answered = new Map(); // image -> the server's newest answer about its document, {version}
const decided = new Map(); // image -> decisions that were saved, prediction -> text
const writing = new WeakMap(); // entry -> promise of its being written to the local store
const written = new WeakSet(); // entries that are there
const tried = new WeakSet(); // entries that the server may have saved, whether we heard of it or not
let failures = 0;
let timer = null;
let state = "saved";

function open() {
  return new Promise((done) => {
    const request = indexedDB.open("bessemer", 1);
    request.onupgradeneeded = () => {
      request.result.createObjectStore(STORE, { keyPath: "key" });
      request.result.createObjectStore(DRAFTS, { keyPath: "key" });
    };
    request.onsuccess = () => done(request.result);
    request.onerror = () => done(null); // private windows of some browsers have none
  });
}

function run(store, mode, work) {
  if (!database) return Promise.reject(new Error("no local store"));
  return new Promise((done, fail) => {
    const transaction = database.transaction(store, mode);
    const request = work(transaction.objectStore(store));
    transaction.oncomplete = () => done(request?.result);
    transaction.onerror = () => fail(transaction.error);
    transaction.onabort = () => fail(transaction.error); // a full disk aborts what had no error before
  });
}

/** Write an entry to the local store, once. */
function keep(entry) {
  if (!writing.has(entry)) {
    const put = run(STORE, "readwrite", (store) => store.put(entry));
    writing.set(entry, put.then(() => written.add(entry), () => undefined));
  }
  return writing.get(entry);
}

const drop = (key) => run(STORE, "readwrite", (store) => store.delete(key)).catch(() => undefined);

const allOf = async (store) => (await run(store, "readonly", (each) => each.getAll()).catch(() => undefined)) ?? [];

/** A draft that is not for the server yet (an unfinished ranking): kept, found, forgotten. */
export const drafts = {
  put: (key, value) => run(DRAFTS, "readwrite", (store) => store.put({ key: draftKey(key), value })).catch(() => undefined),
  get: async (key) => (await run(DRAFTS, "readonly", (store) => store.get(draftKey(key))).catch(() => undefined))?.value,
  all: async (start) => {
    const ours = (await allOf(DRAFTS)).filter(({ key }) => key.startsWith(draftKey(start)));
    return ours.map(({ key, value }) => ({ key: key.slice(draftKey("").length), value }));
  },
  drop: (key) => run(DRAFTS, "readwrite", (store) => store.delete(draftKey(key))).catch(() => undefined),
};

const draftKey = (key) => `${app.session.project}/${app.session.annotator}/${key}`;

/** Open the local store and take over what earlier tabs, dead by now, could not send. */
export async function startOutbox() {
  database = await open();
  try {
    tab = sessionStorage.getItem("bessemer.tab") ?? newId();
    sessionStorage.setItem("bessemer.tab", tab);
  } catch {
    tab = newId();
  }
  const free = await holdTab();
  const rows = (await allOf(STORE)).sort((one, other) => other.stamp - one.stamp); // the newest first
  for (const row of rows) {
    const mine = row.annotator === app.session.annotator && row.project === app.session.project;
    if (!mine || row.tab !== tab && !(await free(row.tab))) continue;
    row.tab = tab; // under its own key: two tabs may have left something of one image
    await keep(row);
    tried.add(row);
    if (entries.has(row.image)) late.set(row.image, [...(late.get(row.image) ?? []), row]);
    else entries.set(row.image, row);
  }
  addEventListener("online", () => flush());
  addEventListener("pagehide", () => { if (entries.size) flush(true); });
  addEventListener("beforeunload", (event) => { if (!keptAll()) event.preventDefault(); });
  document.addEventListener("visibilitychange", () => { if (document.hidden) flush(); });
  if (entries.size) flush();
  announce();
}

/** A lock that lives as long as this tab; a duplicated tab takes a new name. Returns whether another tab is gone. */
async function holdTab() {
  if (!navigator.locks) return async () => true; // over plain http; what two tabs send alike is one version
  const held = await new Promise((done) => {
    navigator.locks.request(`bessemer.tab.${tab}`, { ifAvailable: true }, (lock) => {
      done(lock !== null);
      return lock && new Promise(() => {});
    });
  });
  if (!held) {
    tab = newId();
    try {
      sessionStorage.setItem("bessemer.tab", tab);
    } catch {
      // the name lives as long as the page then
    }
    navigator.locks.request(`bessemer.tab.${tab}`, () => new Promise(() => {}));
  }
  return (other) => navigator.locks.request(`bessemer.tab.${other}`, { ifAvailable: true }, async (lock) => lock !== null);
}

const keyOf = (image) => `${app.session.project}/${app.session.annotator}/${image}/${tab}`;

/** Take an edit: all annotations of an image, based on a version, and what was decided about predictions. What it
 * changes may be on its way to the server, or was saved there and the answer got lost: `sent`, which goes first once
 * more. The server saves the same only once; an edit on top of it would be in conflict with ourselves. */
export function put(image, base, annotations, decisions) {
  const before = entries.get(image);
  const sent = before?.sent ?? (tried.has(before) ? said(before) : null);
  const entry = {
    key: before?.key ?? keyOf(image), tab, project: app.session.project, annotator: app.session.annotator, image,
    base: before?.base ?? base, annotations, decisions, stamp: Date.now(), sent,
  };
  entries.set(image, entry);
  clearTimeout(timer);
  timer = setTimeout(() => flush(), 220);
  announce();
}

const said = ({ base, annotations, decisions }) => ({ base, annotations, decisions });

/** What waits for an image, to be shown in place of what the server has. */
export const waiting = (image) => entries.get(image);

/** Whether everything that waits would be found again by the next page. */
const keptAll = () => [...entries.values()].every((entry) => written.has(entry));

/** What the server last answered about an image's document, {version}: another object, another answer. */
export const answerOf = (image) => answered.get(image);

/** The document stands at this version now (a save, a submission taken back): later edits are based on it. */
export function rebase(image, answer) {
  answered.set(image, answer);
  const entry = entries.get(image);
  if (!entry) return;
  entry.base = answer.version;
  entry.sent = null;
  writing.delete(entry);
}

/** Send what waits; true when nothing is left. Whether a request is on its way or not, it is kept here first. */
export async function flush(last = false) {
  clearTimeout(timer);
  timer = null;
  for (const entry of entries.values()) keep(entry);
  await Promise.all([...entries.keys()].map((image) => send(image, last)));
  return entries.size === 0;
}

/** Send what waits for one image; the version that it is saved as then (`version`, if nothing was sent since), 0 when
 * something still waits. */
export async function settle(image, version) {
  await send(image);
  return entries.has(image) ? 0 : Math.max(version, answerOf(image)?.version ?? 0);
}

async function send(image, last = false) {
  if (stuck.has(image)) return;
  while (flying.has(image)) await flying.get(image);
  const entry = entries.get(image);
  if (!entry || stuck.has(image)) return;
  const flight = transmit(entry, last);
  flying.set(image, flight);
  announce();
  const taken = await flight;
  flying.delete(image);
  announce();
  if (!entries.has(image)) await sendLate(image);
  else if (taken) await send(image);
}

/** Send an entry, or first what it came after; whether the server took it. */
async function transmit(entry, last) {
  const { image } = entry;
  const sent = entry.sent ?? entry;
  const { base, annotations, decisions } = sent;
  tried.add(sent);
  const kept = keep(entry);
  if (!last) await kept;
  const known = decided.get(image) ?? new Map();
  const fresh = decisions.filter((decision) => known.get(decision.prediction) !== JSON.stringify(decision));
  try {
    const body = { version: base, annotations, decisions: fresh };
    const answer = await post(`/api/images/${image}/save`, body, last && annotations.length < 100);
    failures = 0;
    for (const decision of fresh) known.set(decision.prediction, JSON.stringify(decision));
    decided.set(image, known);
    const done = entries.get(image) === sent;
    if (done) entries.delete(image);
    rebase(image, answer);
    emit("saved", { image, ...answer }); // before anything is waited for: what is opened now knows of it
    if (done) await drop(entry.key);
    return true;
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    fail(image, sent, error);
    return false;
  }
}

/** Tell the server what something newer was saved over. Based on no version, it is kept as a conflict. */
async function sendLate(image) {
  const rows = late.get(image) ?? [];
  late.delete(image);
  for (const row of rows) {
    try {
      await post(`/api/images/${image}/save`, { version: 0, annotations: row.annotations });
    } catch (error) {
      if (!error.body?.conflict) {
        late.set(image, [...(late.get(image) ?? []), row]); // it stays in the local store for the next page
        continue;
      }
    }
    if (entries.get(image)?.key !== row.key) await drop(row.key);
  }
}

function fail(image, sent, error) {
  if (error.status === 409 && error.body?.conflict) {
    stuck.set(image, sent);
    emit("conflict", { image, yours: entries.get(image) ?? sent, current: error.body.conflict.current });
    return;
  }
  if (error.status && error.status <= 500) forgetSent(image, sent); // an answer, not one of what lies between us
  failures += 1;
  const gone = error.status === 401 || error.status === 403;
  emit("unsaved", { image, message: error.message, status: error.status });
  state = gone ? "out" : "offline";
  clearTimeout(timer);
  timer = setTimeout(() => flush(), Math.min(15000, 500 * 2 ** Math.min(failures, 5)));
}

/** What was sent was refused, so that it is not saved anywhere: the next edit may be a better one. */
function forgetSent(image, sent) {
  tried.delete(sent);
  const now = entries.get(image);
  if (!now?.sent) return;
  now.sent = null;
  writing.delete(now);
}

/** The conflict of an image is resolved: these annotations go on top of what stands there, or nothing does. What the
 * server has not seen yet of what is left behind, it is told. */
export function resolve(image, base, annotations) {
  const refused = stuck.get(image);
  stuck.delete(image);
  const entry = entries.get(image);
  entries.delete(image);
  answered.set(image, { version: base });
  if (annotations !== null) {
    put(image, base, annotations, entry?.decisions ?? []);
    return;
  }
  if (entry && entry !== refused) late.set(image, [...(late.get(image) ?? []), entry]);
  else if (entry) drop(entry.key);
  sendLate(image);
  announce();
}

/** Say how the saving of images stands. */
function announce() {
  if (stuck.size) state = "conflict";
  else if (entries.size === 0) state = "saved";
  else if (!failures) state = "saving";
  else if (state !== "out") state = "offline";
  const lost = state === "offline" && [...entries.values()].some((entry) => writing.has(entry) && !written.has(entry));
  emit("save-state", { of: "images", state: lost ? "unkept" : state, waiting: entries.size });
}
