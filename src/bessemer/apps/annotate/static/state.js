// What the modules share: the session, settings that stay in this browser, and a bus for events.

const listeners = new Map();

/** Call `handler` at every `emit` of the event; returns how to stop. */
export function on(event, handler) {
  if (!listeners.has(event)) listeners.set(event, new Set());
  listeners.get(event).add(handler);
  return () => listeners.get(event).delete(handler);
}

export function emit(event, value) {
  for (const handler of [...(listeners.get(event) ?? [])]) handler(value);
}

export const app = {
  session: null, // as /api/session
  labels: [], // of the label set
  labelVersion: 0,
  doc: null, // the open Doc
  view: "draw",
  reviewing: false,
};

/** A setting of this browser, JSON; the default where there is none or it is broken. */
export function setting(name, fallback) {
  try {
    const text = localStorage.getItem(`bessemer.${name}`);
    return text === null ? fallback : JSON.parse(text);
  } catch {
    return fallback;
  }
}

export function keepSetting(name, value) {
  try {
    localStorage.setItem(`bessemer.${name}`, JSON.stringify(value));
  } catch {
    // a browser that keeps nothing still annotates
  }
}

const STATES = ["unkept", "out", "conflict", "refused", "offline", "saving", "draft"]; // of saving, the worst first

/** Of several states of saving the one to be shown. */
export const worst = (states) => STATES.find((state) => states.includes(state)) ?? "saved";

/** A new id for an annotation, unlike any other. */
export function newId() {
  const bytes = crypto.getRandomValues(new Uint8Array(9));
  return [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

const PALETTE = ["#4cc9f0", "#f2a33c", "#7ae582", "#f25f7a", "#b892ff", "#ffe066", "#3ddbd9", "#ff8fab", "#a3c4f3", "#d4a373", "#90be6d", "#f9844a"];

/** The colour of a label: its own, else one by its place; grey for a label that the set does not know. */
export function colorOf(name) {
  if (name === null || name === undefined) return "#c8ccd2";
  const place = app.labels.findIndex((label) => label.name === name);
  if (place >= 0) return app.labels[place].color || PALETTE[place % PALETTE.length];
  let sum = 0;
  for (const char of name) sum = (sum * 31 + char.codePointAt(0)) % 997;
  return PALETTE[sum % PALETTE.length];
}
