// The server, asked for JSON. Every answer is data; nothing of it is ever markup.

import { t } from "./strings.js";

const PATIENCE = 60000; // milliseconds for a change; what hangs longer is tried again

/** What the server refused, or status 0 where it was not reached. */
export class ApiError extends Error {
  constructor(status, body) {
    super(body?.error ?? (status ? t("error.status", status) : t("error.away")));
    this.status = status;
    this.body = body;
  }
}

let person = "";

/** Whose page this is: said with everything that is asked, so that the cookie of somebody else neither shows their work
 * here nor changes anything in their name. */
export function setPerson(name) {
  person = name;
}

/** The name as the server quotes it. */
const named = () => encodeURIComponent(person).replace(/[!'()*]/g, quoted);

const quoted = (sign) => `%${sign.charCodeAt(0).toString(16).toUpperCase()}`;

async function ask(path, options) {
  let response;
  try {
    response = await fetch(path, { credentials: "same-origin", redirect: "error", ...options });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, null);
  }
  let body = null;
  try {
    body = await response.json();
  } catch {
    throw new ApiError(response.ok ? 0 : response.status, null);
  }
  if (!response.ok) throw new ApiError(response.status, body);
  return body;
}

export function get(path, parameters = {}, signal = undefined) {
  const given = Object.entries(parameters).filter(([, value]) => value !== "" && value !== null && value !== undefined);
  const query = new URLSearchParams(given).toString();
  return ask(query ? `${path}?${query}` : path, { headers: person ? { "X-Bessemer": named() } : {}, signal });
}

export function post(path, body, keepalive = false, patience = PATIENCE) {
  const headers = { "Content-Type": "application/json", "X-Bessemer": named() };
  const signal = AbortSignal.timeout(patience);
  return ask(path, { method: "POST", headers, body: JSON.stringify(body), keepalive, signal });
}

/** A picture of the server, decoded; asks again where the server is busy. */
export async function picture(path, signal = undefined) {
  for (let attempt = 0; ; attempt += 1) {
    const response = await fetch(path, { credentials: "same-origin", signal }).catch((error) => {
      if (error.name === "AbortError") throw error;
      throw new ApiError(0, null);
    });
    if (response.status === 429 && attempt < 5) {
      await new Promise((done) => setTimeout(done, 400 * (attempt + 1)));
      continue;
    }
    if (!response.ok) throw new ApiError(response.status, await response.json().catch(() => null));
    return createImageBitmap(await response.blob());
  }
}
