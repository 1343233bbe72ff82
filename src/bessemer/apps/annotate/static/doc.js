// One annotator's document of one image: annotations, selection, undo, what was decided about predictions.
// Annotations are never changed in place, so an earlier state is a list of the same objects.

import { app, emit, newId } from "./state.js";
import { put } from "./outbox.js";
import { bounds, Grid } from "./shapes.js";

const STAMPS = new Set(["author", "created", "updated"]);
const LIMIT = 500; // steps of undo

export class Doc {
  constructor({ image, document, predictions, conflicts }, waiting) {
    this.image = image;
    this.version = document.version;
    this.state = document.state;
    this.comment = document.comment;
    this.reviewer = document.reviewer;
    this.conflicts = conflicts;
    this.annotations = waiting ? waiting.annotations : document.annotations;
    this.predictions = predictions; // in the order in which they came
    this.models = new Map(predictions.map((each) => [kindOf(each), each.model_version])); // kind -> who proposed it last
    this.decisions = new Map();
    for (const each of predictions) if (each.decision) this.decisions.set(each.id, { kind: each.decision, became: each.became });
    for (const each of waiting?.decisions ?? []) this.decisions.set(each.prediction, { kind: each.kind, became: each.became });
    this.selection = new Set();
    this.vertex = null;
    this.hidden = new Set();
    this.undone = [];
    this.done = [];
    this.readOnly = false;
    this.index();
  }

  index() {
    this.byId = new Map(this.annotations.map((annotation) => [annotation.id, annotation]));
    this.grid = new Grid(this.image.width, this.image.height);
    for (const annotation of this.annotations) if (annotation.shape) this.grid.add(annotation.id, bounds(annotation.shape));
  }

  get shapes() {
    return this.annotations.filter((annotation) => annotation.shape);
  }

  selected() {
    return [...this.selection].map((id) => this.byId.get(id)).filter(Boolean);
  }

  select(ids, { toggle = false } = {}) {
    const next = toggle ? new Set(this.selection) : new Set();
    for (const id of ids) if (toggle && next.has(id)) next.delete(id); else next.add(id);
    this.selection = next;
    this.vertex = null;
    emit("selection");
  }

  snapshot() {
    return { annotations: this.annotations, decisions: new Map(this.decisions), selection: new Set(this.selection) };
  }

  /** Do one undoable thing: a new list of annotations, and perhaps decisions. Steps with the same `merge` (typing in one
   * field, nudging one shape) within a moment are one. */
  change(annotations, { decisions = [], merge = "" } = {}) {
    if (this.readOnly) return;
    const now = performance.now();
    const together = merge && this.merge === merge && now - this.changedAt < 1200 && this.done.length;
    if (!together) this.done.push(this.snapshot());
    if (this.done.length > LIMIT) this.done.shift();
    this.merge = merge;
    this.changedAt = now;
    this.undone = [];
    for (const { prediction, kind, became } of decisions) this.decisions.set(prediction, { kind, became });
    this.take(annotations);
  }

  take(annotations) {
    this.annotations = annotations;
    this.index();
    for (const id of this.selection) if (!this.byId.has(id)) this.selection.delete(id);
    this.derive();
    if (this.state !== "doing") this.state = "doing";
    put(this.image.id, this.version, annotations, this.decisionRows());
    emit("doc");
  }

  undo() {
    if (!this.done.length || this.readOnly) return false;
    this.undone.push(this.snapshot());
    this.back(this.done.pop());
    return true;
  }

  redo() {
    if (!this.undone.length || this.readOnly) return false;
    this.done.push(this.snapshot());
    this.back(this.undone.pop());
    return true;
  }

  back({ annotations, decisions, selection }) {
    for (const prediction of this.decisions.keys()) if (!decisions.has(prediction)) decisions.set(prediction, { kind: "open", became: "" });
    this.decisions = decisions;
    this.selection = selection;
    this.vertex = null;
    this.merge = "";
    this.take(annotations);
  }

  /** Go on with these annotations on top of a version of another tab; one step back is that version. */
  restart(annotations, { version, annotations: theirs }) {
    const there = new Set(theirs.map(({ id }) => id));
    const decisions = new Map([...this.decisions].filter(([, { became }]) => !became || there.has(became)));
    this.done = [{ annotations: theirs, decisions, selection: new Set() }];
    this.undone = [];
    this.merge = "";
    this.version = version;
    this.state = "doing";
    this.annotations = annotations;
    this.index();
    this.select(this.selected().map(({ id }) => id));
    emit("doc");
  }

  /** A prediction that was taken over counts as accepted while it is as proposed, edited when it is not, rejected when
   * it was deleted. */
  derive() {
    for (const each of this.predictions) {
      const decision = this.decisions.get(each.id);
      if (!decision?.became || decision.kind === "open") continue;
      const own = this.byId.get(decision.became);
      const kind = !own ? "reject" : alike(own, each.annotation) ? "accept" : "edit";
      this.decisions.set(each.id, { kind, became: decision.became });
    }
  }

  decisionRows() {
    return [...this.decisions].map(([prediction, { kind, became }]) => ({ prediction, kind, became: became ?? "" }));
  }

  /** The predictions that wait for a decision; those that a newer model was asked about too come last. */
  undecided() {
    const open = this.predictions.filter((each) => ["open", undefined].includes(this.decisions.get(each.id)?.kind));
    return [...open.filter((each) => this.newest(each)), ...open.filter((each) => !this.newest(each))];
  }

  /** Whether no newer model proposes things of the kind: what two models found would be there twice. */
  newest(prediction) {
    return this.models.get(kindOf(prediction)) === prediction.model_version;
  }

  add(items, { select = true } = {}) {
    const fresh = items.map((item) => ({ ...item, id: newId() }));
    this.change([...this.annotations, ...fresh]);
    if (select) this.select(fresh.map((item) => item.id));
    return fresh;
  }

  /** Replace annotations by others of the same id. */
  replace(changed, merge = "") {
    const next = new Map(changed.map((annotation) => [annotation.id, annotation]));
    this.change(this.annotations.map((annotation) => next.get(annotation.id) ?? annotation), { merge });
  }

  remove(ids) {
    const gone = new Set(ids);
    if (gone.size) this.change(this.annotations.filter((annotation) => !gone.has(annotation.id)));
  }

  accept(prediction) {
    const { id, score, ...rest } = clean(prediction.annotation);
    const taken = { ...rest, id: newId(), source: "prediction", model_version: prediction.model_version };
    this.change([...this.annotations, taken], { decisions: [{ prediction: prediction.id, kind: "accept", became: taken.id }] });
    if (taken.shape) this.select([taken.id]);
  }

  /** Take over what the newest model proposes, of shapes, of words and of answers each; older ones only one by one. */
  acceptAll() {
    const open = this.undecided().filter((each) => this.newest(each));
    if (!open.length) return;
    const taken = open.map((each) => {
      const { id, score, ...rest } = clean(each.annotation);
      return [each, { ...rest, id: newId(), source: "prediction", model_version: each.model_version }];
    });
    this.change([...this.annotations, ...taken.map(([, own]) => own)], {
      decisions: taken.map(([each, own]) => ({ prediction: each.id, kind: "accept", became: own.id })),
    });
  }

  reject(prediction) {
    this.change(this.annotations, { decisions: [{ prediction: prediction.id, kind: "reject", became: "" }] });
  }

  /** The annotations about the whole image. */
  captions() {
    return this.annotations.filter((annotation) => !annotation.shape && (annotation.text || annotation.id.startsWith("caption")));
  }

  scene() {
    return this.annotations.find((annotation) => !annotation.shape && annotation.scene)?.scene ?? "";
  }

  setScene(scene) {
    const holder = this.annotations.find((annotation) => !annotation.shape && annotation.scene);
    if (!holder) {
      if (scene) this.change([...this.annotations, { id: newId(), scene }]);
      return;
    }
    const { scene: before, ...rest } = holder;
    const empty = !scene && Object.keys(rest).every((key) => key === "id" || STAMPS.has(key));
    this.change(this.annotations.flatMap((each) => (each !== holder ? [each] : empty ? [] : [scene ? { ...rest, scene } : rest])));
  }

  saved({ version, state }) {
    this.version = version;
    this.state = state;
  }
}

/** Without what the store sets itself. */
function clean(annotation) {
  return Object.fromEntries(Object.entries(annotation).filter(([key]) => !STAMPS.has(key)));
}

const kindOf = ({ annotation: { shape, text } }) => (shape ? "shape" : text ? "text" : "answer");

const SAID = ["label", "shape", "text", "attributes", "scene"];

/** Whether two annotations say the same. */
export function alike(one, other) {
  return SAID.every((key) => JSON.stringify(one[key] ?? null) === JSON.stringify(other[key] ?? null));
}

/** What two versions of a document say differently: only in one, only in the other, in both but not alike. */
export function compare(yours, theirs) {
  const [mine, standing] = [yours, theirs].map((list) => new Map(list.map((annotation) => [annotation.id, annotation])));
  const onlyYours = yours.filter((annotation) => !standing.has(annotation.id));
  const onlyTheirs = theirs.filter((annotation) => !mine.has(annotation.id));
  const both = yours.filter((annotation) => standing.has(annotation.id) && !alike(annotation, standing.get(annotation.id)));
  return { onlyYours, onlyTheirs, changed: both.map((annotation) => [annotation, standing.get(annotation.id)]) };
}

/** Everything of both: what stands there, what only yours has, and yours of what differs beside theirs. */
export function union(yours, theirs) {
  const { onlyYours, changed } = compare(yours, theirs);
  return [...theirs, ...onlyYours, ...changed.map(([mine]) => ({ ...mine, id: newId() }))];
}
