// Listens to the log and refreshes the parts of the page in place. Without it the page is complete, as of its loading.
"use strict";
(() => {
  const WAIT = 700; // ms between two refreshes, so that a burst of events asks once
  const IDLE = 20000; // ms after which ages and times are looked up again
  let pending = null;
  let last = 0;

  // Rows that are as they were stay the very elements they are, so that focus and selection survive.
  const merge = (list, fresh) => {
    const rows = [...fresh.children];
    const wanted = new Set(rows.map((row) => row.id));
    for (const row of [...list.children]) if (!wanted.has(row.id)) row.remove();
    const old = new Map([...list.children].map((row) => [row.id, row]));
    let place = list.firstElementChild;
    for (const row of rows) {
      const kept = old.get(row.id);
      if (kept && kept === place) place = place.nextElementSibling;
      if (kept && kept.outerHTML === row.outerHTML) {
        if (kept.nextElementSibling !== place) list.insertBefore(kept, place);
      } else {
        if (kept) kept.remove();
        list.insertBefore(row, place);
      }
    }
  };

  const replace = (now, then) => {
    if (now.outerHTML === then.outerHTML) return;
    const focused = now.contains(document.activeElement) && document.activeElement.getAttribute("href");
    const [list, fresh] = [now, then].map((part) => part.querySelector("tbody, ol, ul"));
    if (list && fresh && now.hidden === then.hidden) merge(list, fresh);
    else now.replaceWith(then);
    if (!focused || document.activeElement !== document.body) return;
    document.querySelector(`a[href="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true });
  };

  const refresh = async () => {
    pending = null;
    if (document.hidden) return;
    last = Date.now();
    let text;
    try {
      const answer = await fetch(location.href, { headers: { accept: "text/html" } });
      if (!answer.ok) throw new Error(String(answer.status));
      text = await answer.text();
      document.body.classList.remove("lost");
    } catch {
      document.body.classList.add("lost");
      return;
    }
    const page = new DOMParser().parseFromString(text, "text/html");
    document.title = page.title;
    for (const part of document.querySelectorAll("[data-part]")) {
      const fresh = page.querySelector(`[data-part="${part.dataset.part}"]`);
      if (fresh) replace(part, document.adoptNode(fresh));
    }
  };

  const soon = () => {
    if (pending === null) pending = setTimeout(refresh, Math.max(0, last + WAIT - Date.now()));
  };

  const source = new EventSource(`/live?after=${document.body.dataset.seq}`);
  source.onmessage = soon;
  source.onopen = () => {
    if (document.body.classList.contains("lost")) soon();
  };
  source.onerror = () => document.body.classList.add("lost");
  setInterval(() => {
    if (Date.now() - last > IDLE) soon();
  }, 1000);
  document.addEventListener("visibilitychange", soon);
})();
