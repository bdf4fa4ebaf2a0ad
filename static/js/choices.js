// A field with a list of what can be chosen for it: what is typed narrows the list, arrows move in it.
const listOf = (field) => document.querySelector(`[data-fills="${CSS.escape(field.id)}"]`);
const fieldOf = (list) => document.getElementById(list.dataset.fills);
const optionsOf = (list) => [...list.querySelectorAll('[role="option"]')];

function narrow(list, typed) {
  const words = typed.toLowerCase().split(/\s+/).filter(Boolean);
  const options = optionsOf(list);
  for (const option of options) {
    const text = option.textContent.toLowerCase();
    option.hidden = !words.every((word) => text.includes(word));
    option.tabIndex = -1;
  }
  const first = options.find((option) => !option.hidden);
  if (first) first.tabIndex = 0;
  list.hidden = !first;
  list.nextElementSibling.hidden = Boolean(first);
}

function mark(list) {
  const { value } = fieldOf(list);
  for (const option of optionsOf(list)) option.setAttribute("aria-selected", option.dataset.value === value);
}

function choose(option) {
  const list = option.closest("[data-fills]");
  fieldOf(list).value = option.dataset.value;
  mark(list);
}

document.addEventListener("htmx:afterSettle", (event) => {
  for (const list of event.target.querySelectorAll("[data-fills]")) {
    const { value } = fieldOf(list);
    mark(list);
    narrow(list, optionsOf(list).some((option) => option.dataset.value === value) ? "" : value);
  }
});
document.addEventListener("input", (event) => {
  const list = event.target.id && listOf(event.target);
  if (!list) return;
  mark(list);
  narrow(list, event.target.value);
});
document.addEventListener("click", (event) => {
  const option = event.target.closest('[data-fills] [role="option"]');
  if (option) choose(option);
});
document.addEventListener("keydown", (event) => {
  const option = event.target.closest('[data-fills] [role="option"]');
  const list = option ? option.parentElement : event.target.id && listOf(event.target);
  if (!list) return;
  const shown = optionsOf(list).filter((one) => !one.hidden);
  const at = shown.indexOf(option);
  if (event.key === "ArrowDown") shown[Math.min(at + 1, shown.length - 1)]?.focus();
  else if (event.key === "ArrowUp" && option) (shown[at - 1] ?? fieldOf(list)).focus();
  else if ((event.key === "Enter" || event.key === " ") && option) choose(option);
  else return;
  event.preventDefault();
});
