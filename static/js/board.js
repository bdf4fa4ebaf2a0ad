// One websocket per tab. It brings the count of what needs the person, the newest decision that
// waits, and that something changed: parts of the page with hx-trigger="muster:board from:body"
// ask for themselves again, at most every two seconds.
import { toast } from "./toast.js";

const board = { socket: null, newest: null, wait: 1000, rest: 0, isStale: false };

function watchBoard() {
  if (!document.querySelector("[data-needs-you]") || !("WebSocket" in window)) return;
  const url = location.protocol.replace("http", "ws") + "//" + location.host + "/ws/live/";
  const socket = new WebSocket(url);
  board.socket = socket;
  socket.addEventListener("open", () => { board.wait = 1000; });
  socket.addEventListener("message", (event) => show(JSON.parse(event.data)));
  socket.addEventListener("close", (event) => {
    if (board.socket !== socket || event.code === 4404) return;
    setTimeout(watchBoard, board.wait);
    board.wait = Math.min(board.wait * 2, 30000);
  });
}

function show(news) {
  for (const badge of document.querySelectorAll("[data-needs-you]")) {
    badge.textContent = news.needs_you || "";
  }
  document.title = (news.needs_you ? "(" + news.needs_you + ") " : "") + document.title.replace(/^\(\d+\) /, "");
  const newest = news.newest ? news.newest.id : 0;
  if (board.newest !== null) {
    if (newest > board.newest && !document.querySelector("[data-review], [data-stream]")) {
      toast(news.newest.mate + " needs you: " + news.newest.prompt, { href: "/needs-you/?gate=" + newest, look: "caution" });
    }
    htmx.trigger(document.body, "muster:gate");
    tellParts();
  }
  board.newest = newest;
}

function tellParts() {
  if (board.rest || document.hidden) {
    board.isStale = true;
    return;
  }
  board.isStale = false;
  htmx.trigger(document.body, "muster:board");
  board.rest = setTimeout(() => {
    board.rest = 0;
    if (board.isStale) tellParts();
  }, 2000);
}
document.addEventListener("visibilitychange", () => { if (board.isStale) tellParts(); });

watchBoard();
