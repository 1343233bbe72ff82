// Edits on their way to the disk of the server. Each is first in IndexedDB, so that neither a crash of the page nor a
// server that is away loses it. One request an image at a time; what comes late is shown, never overwritten.

import { ApiError, post } from "./api.js";
import { app, emit, newId } from "./state.js";

const STORE = "outbox";
const DRAFTS = "drafts";
let database = null;
let tab = "";
const entries = new Map(); // image -> entry {key, annotator, image, base, annotations, decisions, stamp}
const flying = new Map(); // image -> promise
const stuck = new Set(); // images with a conflict that nobody has resolved yet
const decided = new Map(); // image -> decisions that were saved, prediction -> text
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
  if (!database) return Promise.resolve(undefined);
  return new Promise((done, fail) => {
    const transaction = database.transaction(store, mode);
    const request = work(transaction.objectStore(store));
    transaction.oncomplete = () => done(request?.result);
    transaction.onerror = () => fail(transaction.error);
  });
}

const keep = (entry) => run(STORE, "readwrite", (store) => store.put(entry)).catch(() => undefined);
const drop = (key) => run(STORE, "readwrite", (store) => store.delete(key)).catch(() => undefined);

/** A draft that is not for the server yet (an unfinished ranking): kept, found, forgotten. */
export const drafts = {
  put: (key, value) => run(DRAFTS, "readwrite", (store) => store.put({ key: draftKey(key), value })).catch(() => undefined),
  get: async (key) => (await run(DRAFTS, "readonly", (store) => store.get(draftKey(key))).catch(() => undefined))?.value,
  all: async (key) => {
    const rows = (await run(DRAFTS, "readonly", (store) => store.getAll()).catch(() => [])) ?? [];
    const start = draftKey("");
    return rows.map((row) => ({ ...row, key: row.key.slice(start.length), ours: row.key.startsWith(start) }))
      .filter((row) => row.ours && row.key.startsWith(key));
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
  const rows = (await run(STORE, "readonly", (store) => store.getAll()).catch(() => [])) ?? [];
  for (const row of rows) {
    const mine = row.annotator === app.session.annotator && row.project === app.session.project;
    if (!mine || row.tab !== tab && !(await free(row.tab))) continue;
    if (row.tab !== tab) {
      await drop(row.key);
      row.tab = tab;
      row.key = keyOf(row.image);
      await keep(row);
    }
    const known = entries.get(row.image);
    if (!known || known.stamp < row.stamp) entries.set(row.image, row);
  }
  addEventListener("online", () => flush());
  addEventListener("pagehide", () => { if (timer) flush(true); });
  document.addEventListener("visibilitychange", () => { if (document.hidden) flush(); });
  if (entries.size) flush();
  announce();
}

/** A lock that lives as long as this tab; a duplicated tab takes a new name. Returns whether another tab is gone. */
async function holdTab() {
  if (!navigator.locks) return async () => false;
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

/** Take an edit: all annotations of an image, based on a version, and what was decided about predictions. */
export function put(image, base, annotations, decisions) {
  const before = entries.get(image);
  const entry = {
    key: keyOf(image), tab, project: app.session.project, annotator: app.session.annotator, image,
    base: before?.base ?? base, annotations, decisions, stamp: Date.now(),
  };
  entries.set(image, entry);
  clearTimeout(timer);
  timer = setTimeout(() => flush(), 220);
  announce();
}

/** What waits for an image, to be shown in place of what the server has. */
export const waiting = (image) => entries.get(image);

/** The document stands at this version now (a submit, a restore): later edits are based on it. */
export function rebase(image, base) {
  const entry = entries.get(image);
  if (entry) entry.base = base;
}

/** Send what waits; true when nothing is left. */
export async function flush(last = false) {
  clearTimeout(timer);
  timer = null;
  await Promise.all([...entries.keys()].map((image) => send(image, last)));
  return entries.size === 0;
}

/** Send what waits for one image; true when it is saved. */
export async function settle(image) {
  clearTimeout(timer);
  timer = null;
  await send(image);
  return !entries.has(image);
}

async function send(image, last = false) {
  if (stuck.has(image)) return;
  while (flying.has(image)) await flying.get(image);
  const entry = entries.get(image);
  if (!entry || stuck.has(image)) return;
  const flight = transmit(entry, last);
  flying.set(image, flight);
  announce();
  await flight;
  flying.delete(image);
  announce();
  if (entries.has(image) && entries.get(image) !== entry && !stuck.has(image) && !failures) await send(image);
}

async function transmit(entry, last) {
  const { image } = entry;
  const kept = keep(entry);
  if (!last) await kept;
  const known = decided.get(image) ?? new Map();
  const fresh = entry.decisions.filter((decision) => known.get(decision.prediction) !== JSON.stringify(decision));
  try {
    const body = { version: entry.base, annotations: entry.annotations, decisions: fresh };
    const answer = await post(`/api/images/${image}/save`, body, last && entry.annotations.length < 100);
    failures = 0;
    for (const decision of fresh) known.set(decision.prediction, JSON.stringify(decision));
    decided.set(image, known);
    const now = entries.get(image);
    if (now === entry) {
      entries.delete(image);
      await drop(entry.key);
    } else now.base = answer.version;
    emit("saved", { image, ...answer });
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    fail(entry, error);
  }
}

function fail(entry, error) {
  if (error.status === 409 && error.body?.conflict) {
    stuck.add(entry.image);
    emit("conflict", { image: entry.image, yours: entries.get(entry.image) ?? entry, current: error.body.conflict.current });
    return;
  }
  failures += 1;
  const gone = error.status === 401 || error.status === 403;
  emit("unsaved", { image: entry.image, message: error.message, status: error.status });
  state = gone ? "out" : "offline";
  clearTimeout(timer);
  timer = setTimeout(() => flush(), Math.min(15000, 500 * 2 ** Math.min(failures, 5)));
}

/** The conflict of an image is resolved: these annotations go on top of what stands there, or nothing does. */
export function resolve(image, base, annotations) {
  stuck.delete(image);
  const entry = entries.get(image);
  entries.delete(image);
  if (annotations === null) {
    if (entry) drop(entry.key);
    announce();
    return;
  }
  put(image, base, annotations, entry?.decisions ?? []);
}

/** Say how the saving of images stands. */
function announce() {
  if (stuck.size) state = "conflict";
  else if (entries.size === 0) state = "saved";
  else if (!failures) state = "saving";
  else if (state !== "out") state = "offline";
  emit("save-state", { of: "images", state, waiting: entries.size });
}
