// A field with a list of what can be chosen for it (a combobox): what is typed narrows the list.
const listOf = (field) => field.id && document.querySelector(`[data-fills="${CSS.escape(field.id)}"]`);
const fieldOf = (list) => document.getElementById(list.dataset.fills);
const optionsOf = (list) => [...list.querySelectorAll('[role="option"]')];
const shownOf = (list) => optionsOf(list).filter((option) => !option.hidden);
const isAnOption = (list, value) => optionsOf(list).some((option) => option.dataset.value === value);

function point(list, option) {
  for (const one of optionsOf(list)) one.classList.toggle("here", one === option);
  if (option) fieldOf(list).setAttribute("aria-activedescendant", option.id);
  else fieldOf(list).removeAttribute("aria-activedescendant");
  option?.scrollIntoView({ block: "nearest" });
}

function mark(list) {
  const { value } = fieldOf(list);
  for (const option of optionsOf(list)) option.setAttribute("aria-selected", option.dataset.value === value);
}

function narrow(list, typed) {
  const words = typed.toLowerCase().split(/\s+/).filter(Boolean);
  for (const option of optionsOf(list)) {
    const text = option.textContent.toLowerCase();
    option.hidden = !words.every((word) => text.includes(word));
  }
  const count = shownOf(list).length;
  list.hidden = !count;
  fieldOf(list).setAttribute("aria-expanded", Boolean(count));
  const said = list.nextElementSibling;
  said.textContent = count ? (words.length ? `${count} of ${optionsOf(list).length}` : "") : said.dataset.none;
}

function choose(list, option) {
  fieldOf(list).value = option.dataset.value;
  mark(list);
  point(list, option);
}

document.addEventListener("htmx:afterSettle", (event) => {
  for (const list of event.target.querySelectorAll("[data-fills]")) {
    const field = fieldOf(list);
    list.id = `${field.id}-choices`;
    optionsOf(list).forEach((option, at) => { option.id = `${list.id}-${at}`; });
    field.setAttribute("role", "combobox");
    field.setAttribute("aria-autocomplete", "list");
    field.setAttribute("aria-controls", list.id);
    point(list, null);
    mark(list);
    narrow(list, isAnOption(list, field.value) ? "" : field.value);
  }
});
document.addEventListener("input", (event) => {
  const list = listOf(event.target);
  if (!list) return;
  point(list, null);
  mark(list);
  narrow(list, event.target.value);
});
document.addEventListener("mousedown", (event) => {
  const list = event.target.closest("[data-fills]");
  if (!list) return;
  event.preventDefault(); // who was writing stays in the field
  const option = event.target.closest('[role="option"]');
  if (option) choose(list, option);
});
document.addEventListener("keydown", (event) => {
  const list = listOf(event.target);
  if (!list || list.hidden) return;
  const shown = shownOf(list);
  const at = shown.findIndex((option) => option.classList.contains("here"));
  if (event.key === "ArrowDown") point(list, shown[Math.min(at + 1, shown.length - 1)]);
  else if (event.key === "ArrowUp") point(list, shown[at - 1] ?? null);
  else if (event.key === "Enter" && !isAnOption(list, event.target.value)) choose(list, shown[Math.max(at, 0)]);
  else if (event.key === "Enter" && at >= 0 && shown[at].dataset.value !== event.target.value) choose(list, shown[at]);
  else return;
  event.preventDefault();
});
