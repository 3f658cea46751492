// A picture for a note: uploaded as it is, streamed through the proxy to the node that writes.
import { show } from "./header.js";
import { reload } from "./news.js";

/** Makes the file inputs of the list work; again after the list was replaced. */
export function takePictures() {
  for (const input of document.querySelectorAll("input[data-note]")) {
    input.parentElement.hidden = false;
    input.onchange = async () => {
      const [file] = input.files;
      if (file === undefined) return;
      const response = await fetch(`/api/notes/${input.dataset.note}/picture`, { method: "PUT", headers: { "Content-Type": file.type }, body: file }).catch(() => undefined);
      if (response?.ok === true) await reload();
      else show("news", "The picture was not taken.");
    };
  }
}
