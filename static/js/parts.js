// What parts do on every page: menus that close, texts that are copied, refusals that are said.
import { toast } from "./toast.js";

export function setCookie(name, value) {
  document.cookie = name + "=" + value + ";path=/;max-age=31536000;samesite=lax";
}

document.addEventListener("click", async (event) => {
  for (const menu of document.querySelectorAll("details.menu[open]")) {
    if (!menu.contains(event.target) || event.target.closest(".sheet [commandfor], .sheet [hx-post], .sheet [data-copy]")) menu.open = false;
  }
  const theme = event.target.closest("[data-theme-choice]");
  if (theme) {
    event.preventDefault();
    document.documentElement.dataset.theme = theme.value;
    setCookie("theme", theme.value);
    for (const one of theme.parentElement.children) one.setAttribute("aria-pressed", one === theme);
  }
  const button = event.target.closest("[data-copy], [data-copy-answer]");
  if (button) {
    const answer = "copyAnswer" in button.dataset && [...button.closest(".run").querySelectorAll(".prose")];
    await navigator.clipboard.writeText(answer ? answer.map((said) => said.innerText).join("\n\n") : button.dataset.copy);
    const before = [...button.childNodes];
    button.textContent = "Copied";
    setTimeout(() => button.replaceChildren(...before), 1500);
  }
});
document.addEventListener("keydown", (event) => {
  const menu = event.target.closest?.("details.menu[open]");
  if (menu && (event.key === "ArrowDown" || event.key === "ArrowUp")) {
    const entries = [...menu.querySelectorAll(".sheet :is(a, button)")].filter((one) => one.offsetParent);
    const at = entries.indexOf(document.activeElement) + (event.key === "ArrowDown" ? 1 : -1);
    entries.at(at % entries.length)?.focus();
    event.preventDefault();
  }
  if (!menu || event.key !== "Escape") return;
  menu.open = false;
  menu.querySelector("summary").focus();
  event.stopPropagation();
});
document.addEventListener("change", (event) => {
  if (event.target.matches("[data-submits]")) event.target.form.requestSubmit();
});

// Where one is among tabs is in sight on a phone too.
for (const here of document.querySelectorAll(".settings-nav [aria-current], .tabs [aria-current]")) {
  here.scrollIntoView({ block: "nearest", inline: "center" });
}
// The newest of a chart is in sight where it is wider than its box.
for (const box of document.querySelectorAll(".chart-box")) {
  const bars = box.querySelectorAll("rect[class^=series], rect[class^=is-]");
  const last = Math.max(0, ...[...bars].map((bar) => bar.getBoundingClientRect().right));
  box.scrollLeft += last ? last + 20 - box.getBoundingClientRect().right : box.scrollWidth;
}

// What scrolls sideways can be reached and moved with the keyboard.
for (const box of document.querySelectorAll(".table, .chart-box, pre")) {
  if (box.scrollWidth > box.clientWidth) box.tabIndex = 0;
}

// What is shown once came of a form: loading the page again must not send that form again.
const shown = document.querySelector("[data-shown-once]");
if (shown) history.replaceState(null, "", shown.dataset.shownOnce);

// A dialog whose form was refused is open again.
document.querySelector("[data-reopen]")?.click();

// Only the fields of the chosen kind are shown.
function showKind(select) {
  for (const box of select.form.querySelectorAll("[data-for]")) {
    // A hidden one is not sent, and not checked by the browser.
    box.disabled = !box.dataset.for.split(" ").includes(select.value);
    box.closest(".field").hidden = box.disabled;
  }
}
for (const select of document.querySelectorAll('select[name="kind"]')) {
  if (!select.form?.querySelector("[data-for]")) continue;
  showKind(select);
  select.addEventListener("change", () => showKind(select));
}

// A timezone that was only guessed by the server is guessed better here.
for (const select of document.querySelectorAll("select[data-guess-timezone]")) {
  const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
  if ([...select.options].some((option) => option.value === zone)) select.value = zone;
}

// Code in answers can be copied.
function addCopyButtons() {
  for (const block of document.querySelectorAll(".prose pre:not(:has(.copy-code))")) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "copy-code little";
    button.textContent = "Copy";
    button.dataset.copy = block.textContent;
    block.append(button);
  }
}
addCopyButtons();
document.addEventListener("htmx:oobAfterSwap", addCopyButtons);
document.addEventListener("htmx:afterSettle", addCopyButtons);

// What a request was refused with is said where it was made; nothing typed is lost.
document.addEventListener("htmx:responseError", (event) => {
  let message = "That did not work. Try again.";
  try { message = JSON.parse(event.detail.xhr.responseText).message || message; } catch { /* no JSON */ }
  sayProblem(event.target, message);
});
document.addEventListener("htmx:sendError", (event) => {
  if (event.target.matches("[hx-trigger]:not(form)")) return; // it asks again by itself
  sayProblem(event.target, "Not sent: the server cannot be reached. Try again in a moment.", "connection");
});
function sayProblem(element, message, kind = "refused") {
  const form = element.closest("form");
  if (!form) {
    toast(message, { look: "bad", stays: true });
    return;
  }
  let place = form.querySelector("[data-problem]");
  if (!place) {
    place = document.createElement("p");
    place.className = "error";
    place.setAttribute("role", "alert");
    form.append(place);
  }
  place.dataset.problem = kind;
  place.textContent = message;
}
document.addEventListener("htmx:beforeRequest", (event) => {
  event.target.closest("form")?.querySelector("[data-problem]")?.remove();
});

// A form with changes that are not saved says so before it is left.
for (const form of document.querySelectorAll("form[data-guards]")) {
  let isDirty = false;
  form.addEventListener("input", () => {
    isDirty = true;
    for (const sign of form.querySelectorAll("[data-unsaved]")) sign.hidden = false;
  });
  form.addEventListener("submit", () => { isDirty = false; });
  window.addEventListener("beforeunload", (event) => { if (isDirty) event.preventDefault(); });
}

function addHidden(form, name, value) {
  const field = document.createElement("input");
  field.type = "hidden";
  field.name = name;
  field.value = value;
  form.append(field);
}

// A form says whose page it is on: another tab may have gone to another organization meanwhile.
// Forms that came with the live stream know no token; the page does.
document.addEventListener("submit", (event) => {
  const form = event.target;
  if (form.method !== "post") return;
  if (!("anyOrganization" in form.dataset) && !form.elements.of_organization) {
    addHidden(form, "of_organization", document.body.dataset.organization ?? "");
  }
  if (!form.querySelector('input[name="csrfmiddlewaretoken"]')?.value) {
    addHidden(form, "csrfmiddlewaretoken", JSON.parse(document.body.getAttribute("hx-headers"))["X-CSRFToken"]);
  }
}, true);
