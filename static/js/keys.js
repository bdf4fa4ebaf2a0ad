// Keys. Single ones work outside of fields and can be turned off (Settings, Appearance).
import { closePeek, listKey } from "./list.js";
import { reviewKey } from "./review.js";
import { setCookie } from "./parts.js";

let awaiting = "";
const IN_FIELD = "input:not([type=checkbox], [type=radio]), textarea, select, [contenteditable]";

document.addEventListener("keydown", (event) => {
  if ((event.ctrlKey || event.metaKey) && !event.altKey && !event.shiftKey) {
    if (event.key === "k") openPalette(event);
    if (event.key === "b") foldSide(event);
    return;
  }
  if (event.key === "Escape" && !event.target.closest("dialog")) {
    if (!closePeek()) event.target.blur?.();
    return;
  }
  if (event.target.closest(IN_FIELD) || event.ctrlKey || event.metaKey || event.altKey) return;
  if ("noKeys" in document.body.dataset || document.querySelector("dialog[open]")) return;
  const before = awaiting;
  awaiting = event.key;
  if (before === "g") {
    const place = document.querySelector('[data-go="' + CSS.escape(event.key) + '"]');
    if (place) place.click();
    return;
  }
  if (reviewKey(event) || runKey(event) || listKey(event)) return;
  if (event.key === "e") document.querySelector("[data-export]")?.click();
  if (event.key === "c") location.href = "/threads/new/";
  if (event.key === "?") document.getElementById("keys")?.showModal();
  if (event.key === "[" || event.key === "]") document.querySelector('[data-key="' + event.key + '"]')?.click();
  if (event.key === "/") {
    const box = document.querySelector("main input[type=search], #find");
    if (box) { event.preventDefault(); box.focus(); }
  }
});

// A run's page: its tabs and acts have their key in data-run-key.
function runKey(event) {
  if (!document.querySelector("[data-run]")) return false;
  if (event.key === "e" || event.key === "w") {
    if (!document.querySelector(".timeline")) return false;
    foldSteps(event.key === "e");
    return true;
  }
  const act = document.querySelector('[data-run-key="' + CSS.escape(event.key) + '"]');
  act?.click();
  return Boolean(act);
}

document.addEventListener("click", (event) => {
  const fold = event.target.closest('[data-run-key="e"], [data-run-key="w"]');
  if (fold) foldSteps(fold.dataset.runKey === "e");
});
function foldSteps(open) {
  for (const row of document.querySelectorAll(".timeline > details")) row.open = open;
}

function foldSide(event) {
  const frame = document.querySelector(".frame");
  if (!frame) return;
  event.preventDefault();
  frame.dataset.side = frame.dataset.side === "narrow" ? "wide" : "narrow";
  setCookie("side", frame.dataset.side);
}

// --- the palette ----------------------------------------------------------------------------
const palette = document.getElementById("palette");

function openPalette(event) {
  if (!palette) return;
  event.preventDefault();
  palette.showModal();
  palette.querySelector("input").select();
  filterPlaces();
}
const choices = () => [...palette.querySelectorAll(".found a")].filter((link) => !link.closest("[hidden]"));

function choose(link) {
  for (const one of choices()) one.removeAttribute("aria-selected");
  link?.setAttribute("aria-selected", "true");
  link?.scrollIntoView({ block: "nearest" });
}
function filterPlaces() {
  const sought = palette.querySelector("input").value.trim().toLowerCase();
  for (const item of palette.querySelectorAll("#palette-places li")) {
    item.hidden = !item.textContent.toLowerCase().includes(sought);
  }
  choose(choices()[0]);
}
palette?.addEventListener("input", filterPlaces);
palette?.addEventListener("htmx:afterSettle", () => {
  if (!palette.querySelector('[aria-selected="true"]')) choose(choices()[0]);
});
palette?.addEventListener("keydown", (event) => {
  const all = choices();
  const at = all.findIndex((link) => link.hasAttribute("aria-selected"));
  if (event.key === "ArrowDown" || event.key === "ArrowUp") {
    event.preventDefault();
    choose(all[Math.min(Math.max(at + (event.key === "ArrowDown" ? 1 : -1), 0), all.length - 1)]);
  }
  if (event.key === "Enter" && all[at]) {
    event.preventDefault();
    all[at].click();
  }
});
