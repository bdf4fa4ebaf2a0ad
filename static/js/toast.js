// A short message at the bottom left. It is never the only place where something is said.
export function toast(text, { href = "", look = "", stays = false } = {}) {
  const place = document.getElementById("toasts");
  const box = document.createElement("div");
  box.className = "toast " + look;
  if (look === "bad") box.setAttribute("role", "alert");
  const words = document.createElement(href ? "a" : "span");
  if (href) words.href = href;
  words.textContent = text;
  const close = document.createElement("button");
  close.type = "button";
  close.className = "quiet little icon-only";
  close.setAttribute("aria-label", "Dismiss");
  close.textContent = "×";
  close.addEventListener("click", () => box.remove());
  box.append(words, close);
  place.append(box);
  if (!stays) setTimeout(() => box.remove(), 12000);
}
