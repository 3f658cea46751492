// The list of notes follows the database: by server-sent events of this node, and by a button that asks for what is newest anywhere.
import { nodeOf, show } from "./header.js";
import { takePictures } from "./pictures.js";

const newestShown = () => Number(document.querySelector("#notes > li")?.id.slice("note-".length) ?? 0);
const isSearch = () => new URLSearchParams(location.search).get("q");

/** Puts the list in from a new copy of this page. */
export async function reload(headers = {}) {
  const response = await fetch(location.href, { headers, cache: "no-store" });
  if (!response.ok) throw new Error(`The board answers ${response.status}.`);
  const page = new DOMParser().parseFromString(await response.text(), "text/html");
  for (const id of ["all-notes", "notes"]) document.getElementById(id).replaceWith(page.getElementById(id));
  takePictures();
  return response;
}

export function followNews() {
  const events = new EventSource("/events");
  events.onmessage = async ({ data }) => {
    const { notes, newest } = JSON.parse(data);
    if (newest !== newestShown() && !isSearch()) await reload().catch(() => undefined);
    show("news", `Live: ${notes} ${notes === 1 ? "note" : "notes"}`);
  };
  // The browser opens the stream again by itself.
  events.onerror = () => show("news", "Live updates pause");
}

/** A strong read: what anybody had written before it began, on whichever node. */
export function showNewest() {
  const button = document.getElementById("newest");
  button.hidden = false;
  button.onclick = async () => {
    try {
      const response = await reload({ "Sluice-Consistency": "strong" });
      show("newest-said", `Read as the newest of all nodes${nodeOf(response) === "" ? "" : `, by node ${nodeOf(response)}`}`);
    } catch (error) {
      show("newest-said", error.message);
    }
  };
}
