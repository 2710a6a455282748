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

  // On a narrow window the menu is a row to scroll: the present page's entry is shown.
  document.querySelector(".menu [aria-current]")?.scrollIntoView({ block: "nearest", inline: "center" });

  // On the map, what belongs to what is pointed at lights up.
  const light = (event) => {
    const node = event.target.closest?.("[data-node]");
    const map = document.querySelector("svg.map");
    if (!map) return;
    map.querySelectorAll(".lit").forEach((lit) => lit.classList.remove("lit"));
    map.classList.toggle("lights", Boolean(node));
    if (!node) return;
    const lit = new Set([node.dataset.node, ...node.dataset.with.split(" ")]);
    map.querySelectorAll("[data-node]").forEach((other) => other.classList.toggle("lit", lit.has(other.dataset.node)));
    map.querySelectorAll(".edge").forEach((edge) => {
      edge.classList.toggle("lit", lit.has(edge.dataset.from) && lit.has(edge.dataset.to));
    });
  };
  document.addEventListener("mouseover", light);
  document.addEventListener("focusin", light);

  // Where streams do not get through, could not begin, or are held back by something between, pages are
  // renewed by asking every few seconds. A stream that is well says something twice as often as that.
  const POLL_MS = 5000;
  const SILENCE_MS = 10000;
  const live = document.querySelector("[data-live]");
  let timer = null;
  let heard = Date.now();
  let over = false;
  const rest = () => { clearInterval(timer); timer = null; };
  const poll = () => {
    // A link there leads to signing in: nothing comes any more.
    if (document.querySelector("#age a")) rest();
    // Not from the element that follows: its request may be the one that is not answered.
    else if (!document.hidden) htmx.ajax("GET", `${live.dataset.live}&once=1`, { source: document.body, swap: "none" });
  };
  const begin = () => { timer ??= setInterval(poll, POLL_MS); };
  if (live) {
    for (const failure of ["htmx:sse:error", "htmx:response:error", "htmx:error"]) live.addEventListener(failure, begin);
    live.addEventListener("htmx:sse:after:message", () => {
      heard = Date.now();
      rest();
    });
    live.addEventListener("end", () => { over = true; });
    // The stream of a hidden page is ended, and begun again when it is looked at.
    document.addEventListener("visibilitychange", () => { heard = Date.now(); });
    setInterval(() => {
      if (!over && !document.hidden && Date.now() - heard > SILENCE_MS) begin();
    }, 1000);
  }
})();
