// The page *Needs you*: keys, edits with what they replace, and the next decision after one.
import { toast } from "./toast.js";

export function reviewKey(event) {
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

// Whoever decides too late learns who was first, even if the card was drawn again meanwhile.
document.addEventListener("htmx:beforeSend", (event) => {
  if (!event.target.matches("[data-gate]")) return;
  const request = event.detail.xhr;
  request.addEventListener("load", () => {
    const answer = new DOMParser().parseFromString(request.responseText, "text/html");
    const late = answer.querySelector("[data-too-late]");
    if (late) toast(late.textContent, { look: "bad" });
  });
});

// On the page that lists decisions, the next one comes up once one is made.
document.addEventListener("muster:decided", () => {
  const page = document.querySelector("[data-review]");
  if (!page) return;
  const rows = [...page.querySelectorAll("[data-row]")];
  const at = rows.findIndex((row) => row.getAttribute("aria-current"));
  const next = rows[at + 1] || rows[at - 1];
  const said = document.querySelector("#pane [role=status]:not(:empty)");
  sessionStorage.setItem("said", said ? said.textContent : "Decided.");
  const going = setTimeout(() => { location.href = next ? next.querySelector("a").href : "/needs-you/"; }, 900);
  // Whoever is on the way to another page meanwhile gets there.
  addEventListener("beforeunload", () => clearTimeout(going), { once: true });
});
const said = sessionStorage.getItem("said");
if (said && document.querySelector("[data-review]")) toast("The one before: " + said, { href: "/needs-you/?tab=done" });
sessionStorage.removeItem("said");
