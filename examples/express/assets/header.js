// Which server answered, where something in front of the application tells it in a response header, and how often the board was opened.

export const nodeOf = (response) => decodeURIComponent(response.headers.get("sluice-node") ?? "");

/** The page itself cannot see the header that it came with, so it asks for its own head once more. */
export async function showAnsweredBy() {
  const response = await fetch(location.href, { method: "HEAD", cache: "no-store" }).catch(() => undefined);
  if (response === undefined || nodeOf(response) === "") return;
  const position = response.headers.get("sluice-txid");
  show("answered-by", `Answered by node ${nodeOf(response)}${position ? ` at ${position}` : ""}`);
}

/** A GET that writes: on a follower the application hands it over, and the proxy runs it on the primary. */
export async function showVisits() {
  const response = await fetch("/visits").catch(() => undefined);
  if (response?.ok !== true) return;
  const { visits } = await response.json();
  show("visits", `Visit number ${visits}${nodeOf(response) === "" ? "" : `, counted on node ${nodeOf(response)}`}`);
}

export function show(id, text) {
  const place = document.getElementById(id);
  place.textContent = text;
  place.hidden = false;
}
