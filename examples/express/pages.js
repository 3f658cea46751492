/**
 * The HTML of the board. Everything that comes from a visitor goes through `escape`. The board works without scripts; what needs one (news, visits,
 * pictures, the chat) is hidden until assets/board.js shows it.
 */

const ESCAPES = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;" };
const escape = (text) => String(text).replace(/[&<>"']/g, (character) => ESCAPES[character]);

function layout(title, content) {
  return `<!doctype html>
<html lang="en">
<head>
  <meta charset="utf-8">
  <meta name="viewport" content="width=device-width, initial-scale=1">
  <title>${escape(title)}</title>
  <link rel="icon" href="data:,">
  <link rel="stylesheet" href="/assets/board.css">
  <script type="module" src="/assets/board.js"></script>
</head>
<body>
  <a class="skip" href="#content">Skip to the notes</a>
  <header>
    <h1><a href="/">Notes board</a></h1>
    <p id="answered-by" class="aside" role="status" hidden></p>
    <p id="visits" class="aside" hidden></p>
  </header>
  <main id="content">
${content}
  </main>
</body>
</html>
`;
}

function noteItem(note, hasPicture) {
  return `      <li class="note" id="note-${note.id}">
        <p class="note-body">${escape(note.body)}</p>${hasPicture ? `
        <img src="/api/notes/${note.id}/picture" alt="Picture of the note of ${escape(note.author)}">` : ""}
        <p class="note-meta">
          <span>${escape(note.author)}</span>
          <time datetime="${escape(note.createdAt)}">${escape(note.createdAt.slice(0, 19).replace("T", " "))} UTC</time>
        </p>
        <form method="post" action="/notes/${note.id}/delete">
          <button class="quiet" aria-label="Delete the note of ${escape(note.author)}">Delete</button>
        </form>
        <label class="picture" hidden>Picture <input type="file" accept="image/*" data-note="${note.id}"></label>
      </li>`;
}

/** The list with the form above it. `problem` is a sentence about what was entered last, in `values`. */
export function boardPage({ notes, total, pictured = new Set(), query = "", problem = "", values = {} }) {
  const heading = query === "" ? `${total} ${total === 1 ? "note" : "notes"}` : `${notes.length} ${notes.length === 1 ? "note contains" : "notes contain"} “${escape(query)}”`;
  return layout(query === "" ? "Notes board" : `${query} · Notes board`, `
    <section aria-labelledby="new-note">
      <h2 id="new-note">New note</h2>
      ${problem === "" ? "" : `<p class="problem" role="alert">${escape(problem)}</p>`}
      <form method="post" action="/notes" class="new-note">
        <label for="author">Name</label>
        <input id="author" name="author" maxlength="80" autocomplete="name" required value="${escape(values.author ?? "")}">
        <label for="body">Note</label>
        <textarea id="body" name="body" rows="3" maxlength="2000" required>${escape(values.body ?? "")}</textarea>
        <button>Add</button>
      </form>
    </section>
    <section aria-labelledby="all-notes">
      <h2 id="all-notes">${heading}</h2>
      <form method="get" action="/" role="search" class="search">
        <label for="q">Search</label>
        <input id="q" name="q" type="search" value="${escape(query)}">
        <button>Search</button>
        ${query === "" ? "" : '<a href="/">Show all</a>'}
      </form>
      <p id="news" class="aside" role="status" hidden></p>
      <button id="newest" class="quiet" type="button" hidden>Show what is newest on any node</button>
      <p id="newest-said" class="aside" role="status" hidden></p>
      <ol id="notes" class="notes" reversed>
${notes.map((note) => noteItem(note, pictured.has(note.id))).join("\n")}
      </ol>
    </section>
    <section id="chat" aria-labelledby="chat-title" hidden>
      <h2 id="chat-title">Chat</h2>
      <ul id="said" role="log"></ul>
      <form id="say">
        <label for="line">Say something</label>
        <input id="line" maxlength="500" autocomplete="off" required>
        <button>Say</button>
      </form>
    </section>`);
}

/** A page with one sentence: what went wrong, or what is not there. */
export function messagePage(title, sentence) {
  return layout(title, `
    <h2>${escape(title)}</h2>
    <p>${escape(sentence)}</p>
    <p><a href="/">Back to the notes</a></p>`);
}
