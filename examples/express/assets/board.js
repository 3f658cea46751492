// What the board does beyond its HTML, one file for each thing. Without scripts the board still shows, adds, finds and deletes notes.
import { openChat } from "./chat.js";
import { showAnsweredBy, showVisits } from "./header.js";
import { followNews, showNewest } from "./news.js";
import { takePictures } from "./pictures.js";

if (document.getElementById("notes") !== null) {
  followNews();
  showNewest();
  takePictures();
  openChat();
}
await Promise.all([showAnsweredBy(), showVisits()]);
