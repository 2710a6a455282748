// What pages do beyond HTML and htmx. Without it everything still works, by reloading.

(() => {
  "use strict";

  // `/` goes to the search, unless something is being written.
  document.addEventListener("keydown", (event) => {
    const at = document.activeElement;
    const writes = at && (at.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(at.tagName));
    if (event.key === "/" && !writes && !event.ctrlKey && !event.metaKey && !event.altKey) {
      const search = document.getElementById("search");
      if (search) {
        event.preventDefault();
        search.focus();
        search.select();
      }
    }
    if (event.key === "Escape") {
      document.querySelectorAll("details.who[open]").forEach((open) => { open.open = false; });
    }
  });

  // Where streams do not get through, pages are renewed by asking every few seconds.
  const POLL_MS = 5000;
  const live = document.querySelector("[data-live]");
  let timer = null;
  const poll = () => {
    if (!document.hidden) {
      htmx.ajax("GET", `${live.dataset.live}&once=1`, { source: live, swap: "none" });
    }
  };
  if (live) {
    live.addEventListener("htmx:sse:error", () => { timer ??= setInterval(poll, POLL_MS); });
    live.addEventListener("htmx:response:error", () => { timer ??= setInterval(poll, POLL_MS); });
    live.addEventListener("htmx:sse:after:message", () => { clearInterval(timer); timer = null; });
  }
})();
