// The run being watched. The page holds its events up to data-after. The stream brings `text`,
// which grows one text node, and `html`, a fragment that htmx swaps in out of band. Both carry the
// number of the run's event, so that a new connection goes on behind the last one seen.
const live = { source: null, element: null, after: "0", waiting: [], timer: 0, wait: 1000, told: 0 };

let wasAtEnd = false;
function nearBottom() {
  return document.documentElement.scrollHeight - window.scrollY - window.innerHeight < 80;
}
export function toBottom() {
  wasAtEnd = true;
  window.scrollTo(0, document.documentElement.scrollHeight);
}

// A picture that arrives makes the page longer: whoever reads its end stays there.
window.addEventListener("scroll", () => { wasAtEnd = nearBottom(); }, { passive: true });
document.addEventListener("load", (event) => {
  if (event.target.matches?.(".run img") && wasAtEnd) toBottom();
}, true);

function follow() {
  if (live.source || document.hidden) return;
  clearTimeout(live.timer);
  const element = document.querySelector("[data-stream]");
  if (!element) return;
  if (live.element !== element) {
    live.element = element;
    live.after = element.dataset.after;
  }
  const source = new EventSource(element.dataset.stream + "?after=" + encodeURIComponent(live.after));
  live.source = source;
  source.addEventListener("open", () => {
    live.wait = 1000;
    document.getElementById("lost").hidden = true;
    document.querySelector('form.composer [data-problem="connection"]')?.remove();
  });
  source.addEventListener("text", (event) => {
    live.after = event.lastEventId || live.after;
    if ("watch" in element.dataset) return;
    live.waiting.push(JSON.parse(event.data));
    if (live.waiting.length === 1) requestAnimationFrame(grow);
  });
  source.addEventListener("html", (event) => {
    grow();
    live.after = event.lastEventId || live.after;
    if ("watch" in element.dataset) {
      tellPage();
      return;
    }
    const stick = nearBottom();
    htmx.swap(document.body, event.data, { swapStyle: "none" });
    if (stick) toBottom();
    tellPage(); // what it costs by now
  });
  source.addEventListener("say", (event) => {
    document.getElementById("say").textContent = event.data;
  });
  source.addEventListener("end", () => {
    grow();
    leave();
    element.removeAttribute("data-stream");
    live.element = null;
    htmx.trigger(document.body, "muster:idle");
    follow();
  });
  source.addEventListener("error", () => { if (live.source === source) lose(); });
}

function lose() {
  if (!live.source) return;
  document.getElementById("lost").hidden = false;
  leave();
  live.timer = setTimeout(follow, live.wait);
  live.wait = Math.min(live.wait * 2, 15000);
}

// A run's own page draws its parts again instead, at most twice a second; what somebody reads stays.
function tellPage() {
  if (live.told) return;
  live.told = setTimeout(() => {
    live.told = 0;
    htmx.trigger(document.body, "muster:run");
    if (!document.querySelector("#tab details[open]")) htmx.trigger(document.body, "muster:tab");
  }, 500);
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
  if (stick) toBottom();
}

function leave() {
  clearTimeout(live.timer);
  live.source?.close();
  live.source = null;
}

// What was said in another tab, or by a program, appears in the open thread too.
const shownRuns = () => [...document.querySelectorAll("[data-news] > .run")].map((run) => Number(run.id.slice(4)));
const firstLook = Math.max(0, ...shownRuns());
let isLooking = false;
async function lookForNews() {
  const log = document.querySelector("[data-news]");
  if (!log || isLooking) return;
  isLooking = true;
  let again = false;
  try {
    const known = shownRuns();
    const since = known.filter((id) => id > firstLook);
    const answer = await fetch(log.dataset.news + "?after=" + firstLook + "&known=" + since.join(","));
    const html = answer.ok ? (await answer.text()).trim() : "";
    // A message that is just being sent comes with its own answer: look again behind it.
    again = Boolean(html) && (document.querySelector("form.composer.htmx-request") !== null || shownRuns().length !== known.length);
    if (html && !again) {
      const stick = nearBottom();
      htmx.swap(log, html, { swapStyle: "beforeend" });
      if (stick) toBottom();
    }
  } finally {
    isLooking = false;
  }
  if (again) setTimeout(lookForNews, 500);
}
document.addEventListener("muster:board", lookForNews);

document.addEventListener("visibilitychange", () => { if (document.hidden) leave(); else follow(); });
document.addEventListener("htmx:afterSettle", follow);
document.addEventListener("click", (event) => { if (event.target.closest("[data-reconnect]")) follow(); });
window.addEventListener("offline", lose);
window.addEventListener("online", follow);
window.addEventListener("pagehide", leave);
window.addEventListener("pageshow", follow);
// A form that leads back to the thread leaves the reader where they were.
const place = "place:" + location.pathname;
document.addEventListener("submit", (event) => {
  if (event.target.matches(".thread-head form") && event.submitter?.name === "starred") sessionStorage.setItem(place, String(window.scrollY));
});
if (document.querySelector("[data-thread]")) {
  const before = sessionStorage.getItem(place);
  sessionStorage.removeItem(place);
  if (before === null) toBottom(); else window.scrollTo(0, Number(before));
}
follow();
