// Muster's own script: one event stream for the run being watched, drafts, keys, theme.
"use strict";

// --- live run -------------------------------------------------------------------------------
// The page holds a run's events up to data-after. The stream brings two kinds of events: `text`
// grows one text node, `html` is a fragment that htmx swaps in out of band. Both carry the number
// of the run's event as id, so that a new connection goes on behind the last one seen.
const live = { source: null, element: null, after: "0", waiting: [], timer: 0 };

function nearBottom() {
  return document.documentElement.scrollHeight - window.scrollY - window.innerHeight < 80;
}

function follow() {
  if (live.source || document.hidden) return;
  const element = document.querySelector("[data-stream]");
  if (!element) return;
  if (live.element !== element) {
    live.element = element;
    live.after = element.dataset.after;
  }
  const url = element.dataset.stream + "?after=" + encodeURIComponent(live.after);
  const source = new EventSource(url);
  live.source = source;
  source.addEventListener("open", () => { document.getElementById("lost").hidden = true; });
  source.addEventListener("text", (event) => {
    live.after = event.lastEventId || live.after;
    live.waiting.push(JSON.parse(event.data));
    if (live.waiting.length === 1) requestAnimationFrame(grow);
  });
  source.addEventListener("html", (event) => {
    grow();
    live.after = event.lastEventId || live.after;
    const stick = nearBottom();
    htmx.swap(document.body, event.data, { swapStyle: "none" });
    if (stick) window.scrollTo(0, document.documentElement.scrollHeight);
  });
  source.addEventListener("say", (event) => {
    document.getElementById("say").textContent = event.data;
  });
  source.addEventListener("end", () => {
    grow();
    leave();
    element.removeAttribute("data-stream");
    live.element = null;
    document.dispatchEvent(new CustomEvent("muster:idle"));
    follow();
  });
  source.addEventListener("error", () => {
    if (live.source !== source) return;
    document.getElementById("lost").hidden = false;
    leave();
    live.timer = setTimeout(follow, 2000);
  });
}

function grow() {
  if (!live.waiting.length) return;
  const stick = nearBottom();
  for (const piece of live.waiting.splice(0)) {
    const block = document.getElementById(piece.block);
    if (!block) continue;
    if (!block.firstChild) block.append("");
    block.firstChild.appendData(piece.text);
  }
  if (stick) window.scrollTo(0, document.documentElement.scrollHeight);
}

function leave() {
  clearTimeout(live.timer);
  if (live.source) live.source.close();
  live.source = null;
}

document.addEventListener("visibilitychange", () => { if (document.hidden) leave(); else follow(); });
document.addEventListener("htmx:afterSettle", follow);
window.addEventListener("pagehide", leave);

// --- what needs you -------------------------------------------------------------------------
// One websocket per tab. It brings the count, and the newest decision that waits.
const board = { socket: null, newest: null, wait: 1000 };

function watchBoard() {
  if (!document.querySelector("[data-needs-you]") || !("WebSocket" in window)) return;
  const url = location.protocol.replace("http", "ws") + "//" + location.host + "/ws/live/";
  const socket = new WebSocket(url);
  board.socket = socket;
  socket.addEventListener("open", () => { board.wait = 1000; });
  socket.addEventListener("message", (event) => showBoard(JSON.parse(event.data)));
  socket.addEventListener("close", (event) => {
    if (board.socket !== socket || event.code === 4404) return;
    setTimeout(watchBoard, board.wait);
    board.wait = Math.min(board.wait * 2, 30000);
  });
}

function showBoard(news) {
  for (const badge of document.querySelectorAll("[data-needs-you]")) {
    badge.replaceChildren();
    if (!news.needs_you) continue;
    const count = document.createElement("span");
    count.className = "count";
    count.textContent = news.needs_you;
    badge.append(count);
  }
  document.title = (news.needs_you ? "(" + news.needs_you + ") " : "") + document.title.replace(/^\(\d+\) /, "");
  const newest = news.newest ? news.newest.id : 0;
  if (board.newest !== null && newest > board.newest && !document.querySelector("[data-review], [data-stream]")) {
    toast(news.newest.mate + " needs you: " + news.newest.prompt, "/needs-you/?gate=" + newest);
  }
  if (board.newest !== null) htmx.trigger(document.body, "muster:gate");
  board.newest = newest;
}

function toast(text, href) {
  const place = document.getElementById("toasts");
  const link = document.createElement("a");
  link.className = "toast";
  link.href = href;
  link.textContent = text;
  place.append(link);
  setTimeout(() => link.remove(), 12000);
}

// --- review ---------------------------------------------------------------------------------
function reviewKey(event) {
  const page = document.querySelector("[data-review]");
  if (!page) return false;
  const rows = [...page.querySelectorAll("[data-row]")];
  const at = rows.findIndex((row) => row.getAttribute("aria-current"));
  const pane = document.getElementById("pane");
  const press = (value) => pane.querySelector('button[name="decision"][value="' + value + '"]');
  switch (event.key) {
    case "j": case "k": {
      const row = rows[at + (event.key === "j" ? 1 : -1)];
      if (row) row.querySelector("a").click();
      return true;
    }
    case "a": {
      const button = press("approve") || pane.querySelector('button[name="plan"][value="approve"]') || press("answer");
      // What is of high risk takes a second key: Enter on the button.
      if (pane.querySelector(".gate.high")) button?.focus(); else button?.click();
      return true;
    }
    case "d": {
      const note = pane.querySelector('input[name="reason"]');
      if (note && !note.value && pane.querySelector(".gate.high")) note.focus(); else press("deny")?.click();
      return true;
    }
    case "s": {
      const edits = pane.querySelector("details.edits");
      if (edits) { edits.open = true; edits.querySelector("textarea").focus(); event.preventDefault(); }
      return true;
    }
    case "x": rows[at]?.querySelector('input[type="checkbox"]')?.click(); return true;
    case "h": pane.querySelector('button[name="for"]')?.click(); return true;
  }
  return false;
}

// What an edit changes is shown beside it before it is sent; the button says so too.
document.addEventListener("input", (event) => {
  if (!event.target.matches("[data-edit]")) return;
  const was = event.target.parentElement.querySelector(".was");
  was.hidden = event.target.value === event.target.defaultValue;
  was.querySelector("del").textContent = event.target.defaultValue;
  const form = event.target.form;
  const isEdited = [...form.querySelectorAll("[data-edit]")].some((box) => box.value !== box.defaultValue);
  form.querySelector("[data-approve]").textContent = isEdited ? "Approve with edits" : "Approve";
});
// Only the fields of the chosen kind are shown.
function showKind(select) {
  for (const box of select.form.querySelectorAll("[data-for]")) {
    box.closest(".field").hidden = !box.dataset.for.split(" ").includes(select.value);
  }
}
for (const select of document.querySelectorAll('select[name="kind"]')) {
  if (!select.form.querySelector("[data-for]")) continue;
  showKind(select);
  select.addEventListener("change", () => showKind(select));
}
// On the page that lists decisions, the next one comes up once one is made.
document.addEventListener("muster:decided", () => {
  const page = document.querySelector("[data-review]");
  if (!page) return;
  const rows = [...page.querySelectorAll("[data-row]")];
  const at = rows.findIndex((row) => row.getAttribute("aria-current"));
  const next = rows[at + 1] || rows[at - 1];
  const said = document.querySelector("#pane [role=status]:not(:empty)");
  sessionStorage.setItem("said", said ? said.textContent : "Decided.");
  setTimeout(() => { location.href = next ? next.querySelector("a").href : "/needs-you/"; }, 900);
});
const said = sessionStorage.getItem("said");
if (said && document.querySelector("[data-review]")) toast("The one before: " + said, "/needs-you/?tab=done");
sessionStorage.removeItem("said");

// --- composer -------------------------------------------------------------------------------
function draftKey(form) { return "draft:" + form.getAttribute("action"); }

function setUpComposers() {
  for (const form of document.querySelectorAll("form[data-composer]")) {
    const box = form.querySelector("textarea");
    const saved = localStorage.getItem(draftKey(form));
    if (saved && !box.value) box.value = saved;
    box.addEventListener("input", () => localStorage.setItem(draftKey(form), box.value));
    box.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
        event.preventDefault();
        if (box.value.trim()) form.requestSubmit();
      }
    });
    form.addEventListener("submit", () => localStorage.removeItem(draftKey(form)));
    form.addEventListener("htmx:afterRequest", (event) => {
      if (!event.detail.successful) {
        localStorage.setItem(draftKey(form), box.value);
        return;
      }
      form.reset();
      window.scrollTo(0, document.documentElement.scrollHeight);
    });
  }
}

// What a request was refused with is said where it was made; nothing typed is lost.
document.addEventListener("htmx:responseError", (event) => {
  let message = "That did not work. Try again.";
  try { message = JSON.parse(event.detail.xhr.responseText).message || message; } catch { /* no JSON */ }
  sayProblem(event.target, message);
});
document.addEventListener("htmx:sendError", (event) => {
  sayProblem(event.target, "Not sent: the server cannot be reached. Try again in a moment.");
});
function sayProblem(element, message) {
  const form = element.closest("form");
  if (!form) return;
  let place = form.querySelector("[data-problem]");
  if (!place) {
    place = document.createElement("p");
    place.dataset.problem = "";
    place.className = "error";
    place.setAttribute("role", "alert");
    form.append(place);
  }
  place.textContent = message;
}
document.addEventListener("htmx:beforeRequest", (event) => {
  const place = event.target.closest("form")?.querySelector("[data-problem]");
  if (place) place.remove();
});

// --- keys -----------------------------------------------------------------------------------
let awaiting = "";
const places = { h: "/", n: "/needs-you/", t: "/threads/", m: "/teammates/", r: "/runs/" };
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") event.target.blur?.();
  if (event.target.closest("input, textarea, select") || event.metaKey || event.ctrlKey || event.altKey) return;
  if (awaiting === "g" && places[event.key]) {
    window.location.href = places[event.key];
    return;
  }
  if (awaiting !== "g" && reviewKey(event)) return;
  if (event.key === "c") window.location.href = "/threads/new/";
  if (event.key === "/") {
    const box = document.querySelector("textarea, input[type=search]");
    if (box) { event.preventDefault(); box.focus(); }
  }
  awaiting = event.key;
});

// --- theme, times, copy ---------------------------------------------------------------------
document.addEventListener("change", (event) => {
  if (!event.target.matches("[data-theme-choice]")) return;
  document.documentElement.dataset.theme = event.target.value;
  document.cookie = "theme=" + event.target.value + ";path=/;max-age=31536000;samesite=lax";
});
document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy]");
  if (!button) return;
  await navigator.clipboard.writeText(button.dataset.copy);
  const before = button.textContent;
  button.textContent = "Copied";
  setTimeout(() => { button.textContent = before; }, 1500);
});

setUpComposers();
if (document.querySelector("[data-thread]")) window.scrollTo(0, document.documentElement.scrollHeight);
follow();
watchBoard();
