// Keeps the parts of a page that carry data-live fresh, and their running times running.
// Plain DOM and fetch: nothing is evaluated, nothing comes from another host.
(() => {
  "use strict";

  const KEEP_TRYING_S = 15; // the longest pause after answers that did not come

  function later(part, pause_s) {
    setTimeout(refresh, pause_s * 1000, part.id, pause_s);
  }

  async function refresh(id, pause_s) {
    const part = document.getElementById(id);
    if (!part || !part.dataset.live) return; // final
    const every_s = Number(part.dataset.everyS);
    if (document.hidden) return later(part, every_s);
    try {
      const seq = part.dataset.seq === undefined ? "" : "?seq=" + part.dataset.seq;
      const answer = await fetch(part.dataset.live + seq, { redirect: "manual" });
      if (answer.status === 200) exchange(part, await answer.text());
      else if (answer.status >= 500) throw new Error(answer.statusText);
      else if (answer.status !== 204) return say(part, "Signed out or gone: reload the page.");
      later(part, every_s);
    } catch {
      say(part, "No answer; trying again.");
      later(part, Math.min(pause_s * 2, KEEP_TRYING_S));
    }
  }

  // Puts the new part in; what was opened or closed stays so, what was scrolled stays scrolled.
  function exchange(part, html) {
    const fresh = new DOMParser().parseFromString(html, "text/html").getElementById(part.id);
    if (!fresh) return;
    for (const old of part.querySelectorAll("details[id]")) {
      const now = fresh.querySelector("#" + CSS.escape(old.id));
      if (now) now.open = old.open;
    }
    const scrolled = [...part.querySelectorAll(".as-scroll[id]")].map((old) => [old.id, old.scrollLeft, old.scrollTop]);
    part.replaceWith(document.adoptNode(fresh));
    for (const [id, left, top] of scrolled) document.getElementById(id)?.scrollTo(left, top);
    shownAt = performance.now();
  }

  function say(part, text) {
    const place = part.querySelector("[role=status]");
    if (place) place.textContent = text;
  }

  let shownAt = performance.now();

  function tick() {
    for (const place of document.querySelectorAll("[data-elapsed-s]")) {
      const total = Math.floor(Number(place.dataset.elapsedS) + (performance.now() - shownAt) / 1000);
      const parts = [Math.floor(total / 3600), Math.floor(total / 60) % 60, total % 60];
      const units = ["h", "m", "s"];
      const first = parts.findIndex((part) => part > 0);
      place.textContent = parts.slice(first < 0 ? 2 : first).map((part, i) => part + " " + units[(first < 0 ? 2 : first) + i]).join(" ");
    }
  }

  document.addEventListener("DOMContentLoaded", () => {
    setInterval(tick, 1000);
    for (const plan of document.querySelectorAll(".as-plan")) plan.scrollTop = (plan.scrollHeight - plan.clientHeight) / 2;
    for (const part of document.querySelectorAll("[data-live]")) later(part, Number(part.dataset.everyS));
  });
})();
