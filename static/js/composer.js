// The composer: drafts that survive, Enter that sends, files by paste and drag, Esc Esc that stops.
import { toBottom } from "./run.js";

const LARGEST = 20 * 1024 * 1024; // bytes of a file (threads/files.py)

function draftKey(form) { return "draft:" + form.getAttribute("action"); }

function setUp(form) {
  const box = form.querySelector("textarea");
  const files = form.querySelector('input[type="file"]');
  const saved = localStorage.getItem(draftKey(form));
  if (saved && !box.value) box.value = saved;
  box.addEventListener("input", () => localStorage.setItem(draftKey(form), box.value));
  box.addEventListener("keydown", (event) => {
    const sends = event.key === "Enter" && !event.isComposing && (!event.shiftKey || event.ctrlKey || event.metaKey);
    if (!sends) return;
    event.preventDefault();
    if (box.value.trim()) form.requestSubmit();
  });
  // A draft goes once its message has arrived: what was typed since stays.
  let sent = "";
  form.addEventListener("submit", () => { sent = box.value; });
  form.addEventListener("htmx:afterRequest", (event) => {
    const isRedirect = event.detail.xhr?.getResponseHeader("HX-Redirect");
    if (event.target !== form || !event.detail.successful || isRedirect) return;
    const since = box.value === sent ? "" : box.value;
    form.reset();
    box.value = since;
    if (since) localStorage.setItem(draftKey(form), since); else localStorage.removeItem(draftKey(form));
    const once = form.querySelector('input[name="once"]');
    if (once) once.value = crypto.randomUUID?.() ?? String(Math.random());
    if (files) showFiles(form, files);
    toBottom();
  });
  if (files) attachFiles(form, box, files);
}

function attachFiles(form, box, files) {
  form.classList.add("scripted");
  files.tabIndex = -1; // the button beside it opens it
  form.querySelector("[data-attach]")?.addEventListener("click", () => files.click());
  files.addEventListener("change", () => showFiles(form, files));
  const add = (more) => {
    if (!more.length) return;
    const all = new DataTransfer();
    for (const file of [...files.files, ...more]) all.items.add(file);
    files.files = all.files;
    showFiles(form, files);
  };
  box.addEventListener("paste", (event) => add([...event.clipboardData.files]));
  const frame = form.querySelector(".box");
  for (const kind of ["dragenter", "dragover"]) {
    frame.addEventListener(kind, (event) => { event.preventDefault(); frame.classList.add("over"); });
  }
  for (const kind of ["dragleave", "drop"]) {
    frame.addEventListener(kind, () => frame.classList.remove("over"));
  }
  frame.addEventListener("drop", (event) => { event.preventDefault(); add([...event.dataTransfer.files]); });
}

function showFiles(form, files) {
  const place = form.querySelector(".attached");
  place.replaceChildren(...[...files.files].map((file, at) => {
    const chip = document.createElement("span");
    chip.className = "chip" + (file.size > LARGEST ? " failed" : "");
    chip.append(file.name + (file.size > LARGEST ? " is larger than 20 MiB" : ""));
    const remove = document.createElement("button");
    remove.type = "button";
    remove.textContent = "×";
    remove.setAttribute("aria-label", "Remove " + file.name);
    remove.addEventListener("click", () => {
      const rest = new DataTransfer();
      [...files.files].forEach((one, n) => { if (n !== at) rest.items.add(one); });
      files.files = rest.files;
      showFiles(form, files);
    });
    chip.append(remove);
    return chip;
  }));
}

// The first message of a thread has arrived where its thread is shown.
if (document.querySelector("[data-thread]")) {
  const first = "draft:" + document.querySelector("[data-thread]").dataset.thread;
  if (localStorage.getItem(first) && document.querySelectorAll(".said").length === 1) localStorage.removeItem(first);
}
for (const form of document.querySelectorAll("form[data-composer]")) setUp(form);

// Nobody else sees what was not sent.
document.addEventListener("submit", (event) => {
  if (!event.target.matches("[data-sign-out]")) return;
  for (const key of Object.keys(localStorage)) if (key.startsWith("draft:")) localStorage.removeItem(key);
});

// While a run is busy a message is queued, or sent instead of it.
function showHow() {
  const busy = Boolean(document.querySelector("[data-stream]"));
  for (const one of document.querySelectorAll("[data-when]")) one.hidden = (one.dataset.when === "busy") !== busy;
}
document.addEventListener("muster:idle", () => setTimeout(showHow));
document.addEventListener("htmx:afterSettle", showHow);

// An example in an empty thread becomes the message.
document.addEventListener("click", (event) => {
  const example = event.target.closest("[data-example]");
  const box = example && document.querySelector("form[data-composer] textarea");
  if (!box) return;
  box.value = example.dataset.example;
  box.focus();
});

let escaped = -Infinity; // time stamps count from the beginning of the page
document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape" || !document.querySelector("[data-thread]") || document.querySelector(":popover-open") || event.target.closest?.("dialog, details.menu[open], input, select")) return;
  if (event.timeStamp - escaped < 700) document.querySelector("[data-stop]")?.click();
  escaped = event.timeStamp;
});
