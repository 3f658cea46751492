// A chat over WebSocket: what one says goes to all. The connection is opened again when it ends.

const AGAIN_MS = 1_000;

export function openChat() {
  let socket;
  const open = () => {
    socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/chat`);
    socket.onopen = () => (document.getElementById("chat").hidden = false);
    socket.onmessage = ({ data }) => {
      const line = document.createElement("li");
      line.textContent = data;
      document.getElementById("said").append(line);
    };
    socket.onclose = () => setTimeout(open, AGAIN_MS);
  };
  open();
  document.getElementById("say").onsubmit = (event) => {
    event.preventDefault();
    const input = document.getElementById("line");
    if (socket.readyState !== WebSocket.OPEN) return;
    socket.send(input.value);
    input.value = "";
  };
}
