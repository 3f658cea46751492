/**
 * What goes on after a page has been sent: news of the board as server-sent events, and a chat over WebSocket.
 *
 * Events come from the database of this node, so they need no other node. The chat is in the memory of one process: behind Sluice a rule sends
 * `/chat` to the primary, so that all who chat meet there.
 */
import { WebSocketServer } from "ws";

/** How often the database is looked at for news, and how often a silent stream says that it is alive. */
const LOOK_MS = 200;
const ALIVE_MS = 15_000;
const MESSAGE_BYTES_MAX = 2_000;

/** Answers with a stream that tells the number of notes and the newest one, at once and whenever they change. */
export function streamEvents(notes, request, response) {
  response.set({ "Content-Type": "text/event-stream", "Cache-Control": "no-store" });
  let shown = "";
  const look = () => {
    const news = JSON.stringify({ notes: notes.count(), newest: notes.list()[0]?.id ?? 0 });
    if (news === shown) return;
    shown = news;
    response.write(`data: ${news}\n\n`);
  };
  look();
  const looking = setInterval(look, LOOK_MS);
  const living = setInterval(() => response.write(":\n\n"), ALIVE_MS);
  response.on("close", () => {
    clearInterval(looking);
    clearInterval(living);
  });
}

/** Opens the chat at `/chat` of a server: every message goes to everybody who is there. */
export function openChat(server) {
  const chat = new WebSocketServer({ server, path: "/chat", maxPayload: MESSAGE_BYTES_MAX });
  chat.on("connection", (socket) => {
    socket.on("error", () => socket.terminate());
    socket.on("message", (data) => {
      for (const client of chat.clients) if (client.readyState === client.OPEN) client.send(data.toString());
    });
  });
  return chat;
}
