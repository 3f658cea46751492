// Says which server answered, where something in front of the application tells it in a response header. The page itself cannot see the header that
// it came with, so it asks for its own head once more.
const place = document.getElementById("answered-by");
const response = await fetch(location.href, { method: "HEAD", cache: "no-store" }).catch(() => undefined);
const node = response?.headers.get("sluice-node");
if (node) {
  const position = response.headers.get("sluice-txid");
  place.textContent = `Answered by node ${decodeURIComponent(node)}${position ? ` at ${position}` : ""}`;
  place.hidden = false;
}
