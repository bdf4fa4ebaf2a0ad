// Lists: keys that move through rows, rows that the mouse opens, a look without leaving, choosing.
const rows = () => [...document.querySelectorAll("tr[data-row]")];

function here() { return document.querySelector("tr[data-row].here"); }

function go(row) {
  if (!row) return;
  here()?.classList.remove("here");
  row.classList.add("here");
  row.querySelector("a").focus({ preventScroll: true });
  row.scrollIntoView({ block: "nearest" });
  if (document.querySelector(".peek:not(:empty)")) peek(row);
}

function peek(row) {
  if (row?.dataset.peek) htmx.ajax("GET", row.dataset.peek, { target: "#peek", swap: "innerHTML" });
}

export function closePeek() {
  const pane = document.getElementById("peek");
  if (!pane?.childNodes.length) return false;
  pane.replaceChildren();
  here()?.querySelector("a").focus();
  return true;
}

let last = null;
export function listKey(event) {
  const all = rows();
  if (!all.length) return false;
  const at = all.indexOf(here());
  switch (event.key) {
    case "j": go(all[Math.min(at + 1, all.length - 1)]); return true;
    case "k": go(all[Math.max(at - 1, 0)]); return true;
    case " ":
      if (at < 0 || event.target.closest("button, summary, input")) return false;
      event.preventDefault();
      if (!closePeek()) peek(all[at]);
      return true;
    case "x": case "X": {
      const box = all[at]?.querySelector("td.pick input");
      if (!box) return false;
      const other = event.key === "X" && last ? all.indexOf(last) : at;
      for (const row of all.slice(Math.min(other, at), Math.max(other, at) + 1)) {
        row.querySelector("td.pick input").checked = event.key === "X" || !box.checked;
      }
      last = all[at];
      box.dispatchEvent(new Event("change", { bubbles: true }));
      return true;
    }
    case "f": document.querySelector("[data-query]")?.focus(); event.preventDefault(); return true;
  }
  return false;
}

document.addEventListener("click", (event) => {
  const close = event.target.closest("[data-close-peek]");
  if (close) closePeek();
  const row = event.target.closest("tr[data-row]");
  if (!row || event.target.closest("a, button, input, label, summary, form") || getSelection().toString()) return;
  if (!row.closest("[data-peeks]")) return row.querySelector("a").click();
  go(row);
  if (!document.querySelector(".peek:not(:empty)")) peek(row);
});
document.addEventListener("change", (event) => {
  const form = event.target.closest("form");
  if (!form || !event.target.closest(".pick")) return;
  const boxes = [...form.querySelectorAll("td.pick input")];
  if (event.target.matches("[data-all]")) for (const box of boxes) box.checked = event.target.checked;
  const chosen = boxes.filter((box) => box.checked);
  for (const place of form.querySelectorAll("[data-chosen]")) place.textContent = chosen.length;
});
