// Listens to the log and refreshes the parts of the page in place. Without it the page is complete, as of its loading.
"use strict";
(() => {
  const WAIT = 700; // ms between two refreshes, so that a burst of events asks once
  const IDLE = 20000; // ms after which ages and times are looked up again
  let pending = null;
  let last = 0;

  const replace = (now, then) => {
    if (now.outerHTML === then.outerHTML) return;
    const rows = (part) => new Map([...part.querySelectorAll("tbody > tr[id]")].map((row) => [row.id, row]));
    const old = rows(now);
    const fresh = rows(then);
    const same = old.size > 0 && old.size === fresh.size && [...old.keys()].every((id, i) => [...fresh.keys()][i] === id);
    if (!same) {
      now.replaceWith(then);
      return;
    }
    for (const [id, row] of fresh) {
      if (old.get(id).outerHTML !== row.outerHTML) old.get(id).replaceWith(row);
    }
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
