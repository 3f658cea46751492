/**
 * A notes board: HTML pages for people, JSON for programs, one SQLite database.
 *
 * DATABASE is the path of the database (./notes.db), PORT and HOST say where it listens (3000 on 127.0.0.1).
 */
import { existsSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import express from "express";
import { isBusy, openNotes } from "./database.js";
import { openChat, streamEvents } from "./live.js";
import { boardPage, messagePage } from "./pages.js";

const database = process.env.DATABASE ?? "notes.db";
const notes = await openNotes(database);
/** In a mount of Sluice this file names the primary, on every other node. */
const isFollower = () => existsSync(join(dirname(database), ".primary"));
const app = express();
app.disable("x-powered-by");
app.use((_request, response, next) => {
  response.set({
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self' data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
  });
  next();
});
app.use("/assets", express.static(fileURLToPath(new URL("assets", import.meta.url)), { maxAge: "1h" }));
app.use(express.urlencoded({ extended: false, limit: "64kb" }));
app.use(express.json({ limit: "64kb" }));

const wantsJson = (request) => request.path.startsWith("/api/");
const textOf = (value) => (typeof value === "string" ? value.trim() : "");

/** What a visitor entered, or a sentence that says what is wrong with it. */
function readNote(fields) {
  const author = textOf(fields?.author);
  const body = textOf(fields?.body);
  if (author === "" || body === "") return { author, body, problem: "A note needs a name and a text." };
  if (author.length > 80 || body.length > 2_000) return { author, body, problem: "A name has at most 80 characters, a note 2000." };
  return { author, body };
}

function readId(request) {
  return /^\d{1,15}$/.test(request.params.id) ? Number(request.params.id) : 0;
}

// For load balancers: the process answers and the database can be read.
app.get("/health", (_request, response) => void response.json({ status: "ok", notes: notes.count() }));

app.get("/", (request, response) => {
  const query = textOf(request.query.q);
  response.set("Cache-Control", "no-store").send(boardPage({ notes: notes.list(query), total: notes.count(), pictured: notes.pictured(), query }));
});

app.post("/notes", (request, response) => {
  const { author, body, problem } = readNote(request.body);
  if (problem !== undefined) {
    response.status(422).send(boardPage({ notes: notes.list(), total: notes.count(), pictured: notes.pictured(), problem, values: { author, body } }));
    return;
  }
  response.redirect(303, `/#note-${notes.add(author, body)}`);
});

app.post("/notes/:id/delete", (request, response) => {
  notes.remove(readId(request));
  response.redirect(303, "/");
});

// A GET that writes. On a follower it cannot, so it asks to be run on the primary; whoever is in front of it does that.
app.get("/visits", (_request, response) => {
  if (isFollower()) response.status(409).set("Sluice-Replay", "primary").json({ error: "Only the primary counts visits." });
  else response.set("Cache-Control", "no-store").json({ visits: notes.visit("/visits") });
});

app.get("/events", (request, response) => streamEvents(notes, request, response));

app.put("/api/notes/:id/picture", express.raw({ type: "image/*", limit: "8mb" }), (request, response) => {
  if (notes.get(readId(request)) === undefined) response.status(404).json({ error: "There is no such note." });
  else if (!Buffer.isBuffer(request.body)) response.status(415).json({ error: "A picture is an image." });
  else {
    notes.setPicture(readId(request), request.get("Content-Type"), request.body);
    response.status(204).end();
  }
});

app.get("/api/notes/:id/picture", (request, response) => {
  const picture = notes.picture(readId(request));
  if (picture === undefined) response.status(404).json({ error: "There is no such picture." });
  else response.type(picture.type).set("Cache-Control", "no-cache").send(picture.bytes);
});

app.get("/api/notes", (request, response) => void response.json({ notes: notes.list(textOf(request.query.q)) }));

app.get("/api/notes/:id", (request, response) => {
  const note = notes.get(readId(request));
  if (note === undefined) response.status(404).json({ error: "There is no such note." });
  else response.json(note);
});

app.post("/api/notes", (request, response) => {
  const { author, body, problem } = readNote(request.body);
  if (problem !== undefined) response.status(422).json({ error: problem });
  else {
    const note = notes.get(notes.add(author, body));
    response.status(201).location(`/api/notes/${note.id}`).json(note);
  }
});

app.delete("/api/notes/:id", (request, response) => {
  if (notes.remove(readId(request))) response.status(204).end();
  else response.status(404).json({ error: "There is no such note." });
});

function sendProblem(request, response, status, title, sentence) {
  response.status(status);
  if (wantsJson(request)) response.json({ error: sentence });
  else response.send(messagePage(title, sentence));
}

app.use((request, response) => sendProblem(request, response, 404, "Not found", "There is no such page."));

app.use((error, request, response, next) => {
  if (response.headersSent) return next(error);
  if (isBusy(error)) {
    response.set("Retry-After", "1");
    return sendProblem(request, response, 503, "Busy", "The database cannot be written at the moment. Please try again.");
  }
  if (error.status >= 400 && error.status < 500) return sendProblem(request, response, error.status, "Not understood", "The request could not be understood.");
  console.error(error);
  sendProblem(request, response, 500, "Something went wrong", "The server failed to handle the request.");
});

const server = app.listen(Number(process.env.PORT ?? 3000), process.env.HOST ?? "127.0.0.1", (error) => {
  if (error) throw error;
  const { address, port } = server.address();
  console.log(`Notes board on http://${address}:${port}`);
});

const chat = openChat(server);

for (const signal of ["SIGTERM", "SIGINT"]) {
  process.on(signal, () => {
    for (const client of chat.clients) client.terminate();
    server.close(() => {
      notes.close();
      process.exit(0);
    });
    server.closeIdleConnections();
    // Event streams do not end by themselves.
    setTimeout(() => server.closeAllConnections(), 1_000).unref();
  });
}
