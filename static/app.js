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
  source.addEventListener("gate", () => htmx.trigger(document.body, "muster:gate"));
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
  const form = event.target.closest("form");
  if (!form) return;
  let message = "That did not work. Try again.";
  try { message = JSON.parse(event.detail.xhr.responseText).message || message; } catch { /* no JSON */ }
  let place = form.querySelector("[data-problem]");
  if (!place) {
    place = document.createElement("p");
    place.dataset.problem = "";
    place.className = "error";
    place.setAttribute("role", "alert");
    form.append(place);
  }
  place.textContent = message;
});
document.addEventListener("htmx:beforeRequest", (event) => {
  const place = event.target.closest("form")?.querySelector("[data-problem]");
  if (place) place.remove();
});

// --- keys -----------------------------------------------------------------------------------
let awaiting = "";
const places = { h: "/", t: "/threads/", m: "/teammates/", r: "/runs/" };
document.addEventListener("keydown", (event) => {
  if (event.target.closest("input, textarea, select") || event.metaKey || event.ctrlKey || event.altKey) return;
  if (awaiting === "g" && places[event.key]) window.location.href = places[event.key];
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
