// What pages do beyond HTML and htmx. Without it everything still works, by reloading.

(() => {
  "use strict";

  // `/` goes to the search, unless something is being written, or it was switched off (Preferences).
  document.addEventListener("keydown", (event) => {
    const at = document.activeElement;
    const writes = at && (at.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(at.tagName));
    if (event.key === "/" && !writes && document.body.dataset.slash !== "off" && !event.ctrlKey && !event.metaKey && !event.altKey) {
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

  // Ctrl K opens the list of places: the menu, what can be made, and what this page leads to.
  let places = null;
  const narrow = () => {
    const { input, list } = places;
    const text = input.value.trim();
    const words = text.toLowerCase().split(/\s+/);
    const all = [...list.children];
    all.forEach((place) => {
      place.hidden = place.dataset.search === undefined && !words.every((word) => place.textContent.toLowerCase().includes(word));
    });
    const search = all.at(-1);
    search.hidden = text === "";
    search.textContent = `Search for ${text}`;
    search.dataset.href = `/search?${new URLSearchParams({ q: text })}`;
    point(all.find((place) => !place.hidden));
  };
  const point = (place) => {
    const { input, list } = places;
    [...list.children].forEach((other) => other.setAttribute("aria-selected", String(other === place)));
    if (!place) return input.removeAttribute("aria-activedescendant");
    input.setAttribute("aria-activedescendant", place.id);
    place.scrollIntoView({ block: "nearest" });
  };
  const step = (by) => {
    const shown = [...places.list.children].filter((place) => !place.hidden);
    const at = shown.findIndex((place) => place.getAttribute("aria-selected") === "true");
    point(shown[(at + by + shown.length) % shown.length]);
  };
  // Who comes back finds the page as it was left, without a list over it.
  const go = (place) => {
    if (!place) return;
    places.dialog.close();
    location.assign(place.dataset.href);
  };
  const build = () => {
    const dialog = document.getElementById("places").content.cloneNode(true).firstElementChild;
    const [input, list] = [dialog.querySelector("input"), dialog.querySelector("[role=listbox]")];
    const add = (href, text) => {
      const place = Object.assign(document.createElement("li"), { role: "option", textContent: text });
      place.dataset.href = href;
      return list.appendChild(place);
    };
    const title = document.querySelector("h1")?.textContent ?? "";
    const known = new Set([...list.children].map((place) => place.dataset.href));
    const links = [...document.querySelectorAll("main .headline .actions a[href]")];
    const own = links.filter((link) => !known.has(link.getAttribute("href")));
    list.prepend(...own.map((link) => add(link.getAttribute("href"), `${title}: ${link.textContent}`)));
    add("/search", "").dataset.search = "";
    [...list.children].forEach((place, number) => { place.id = `place-${number}`; });
    places = { dialog, input, list };
    input.addEventListener("input", narrow);
    dialog.addEventListener("keydown", (event) => {
      if (event.key === "ArrowDown" || event.key === "ArrowUp") {
        event.preventDefault();
        step(event.key === "ArrowDown" ? 1 : -1);
      }
    });
    dialog.querySelector("form").addEventListener("submit", (event) => {
      event.preventDefault();
      go(list.querySelector("[aria-selected=true]"));
    });
    list.addEventListener("click", (event) => go(event.target.closest("[role=option]")));
    // A click beside the list closes it.
    dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
    dialog.addEventListener("close", () => { dialog.remove(); places = null; });
    document.body.append(dialog);
  };
  const open = () => {
    if (places || !document.getElementById("places")) return;
    build();
    places.dialog.showModal();
    narrow();
    places.input.focus();
  };
  document.querySelector("[data-places]")?.addEventListener("click", open);
  addEventListener("pageshow", () => { places?.dialog.close(); });
  document.addEventListener("keydown", (event) => {
    // What fills in forms sends keys without a name.
    if (event.key?.toLowerCase() === "k" && (event.ctrlKey || event.metaKey) && !event.altKey && !event.shiftKey) {
      event.preventDefault();
      open();
    }
  });

  // On a narrow window the menu is a row to scroll: the present page's entry is shown.
  document.querySelector(".menu [aria-current]")?.scrollIntoView({ block: "nearest", inline: "center" });

  // On the map, what belongs to what is pointed at lights up.
  const show = (node) => {
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
  let points = null;
  const light = (event) => {
    points = event.type;
    show(event.target.closest?.("[data-node]"));
  };
  document.addEventListener("mouseover", light);
  document.addEventListener("focusin", light);
  // A map that comes anew is dark; what the mouse or the keys point at then may be another.
  document.addEventListener("htmx:after:swap", () => {
    if (points) show(document.querySelector(`svg.map [data-node]${points === "focusin" ? ":focus" : ":hover"}`));
  });

  // Where streams do not get through, could not begin, or are held back by something between, pages are
  // renewed by asking every few seconds. A stream that is well says something twice as often as that.
  const POLL_MS = 5000;
  const SILENCE_MS = 10000;
  const live = document.querySelector("[data-live]");
  let timer = null;
  let heard = Date.now();
  const age = () => document.getElementById("age");
  // What was said last says that nothing comes any more.
  const isOver = () => age()?.dataset.over !== undefined;
  const rest = () => { clearInterval(timer); timer = null; };
  const poll = () => {
    if (isOver()) rest();
    // Not from the element that follows: its request may be the one that is not answered.
    else if (!document.hidden) htmx.ajax("GET", `${live.dataset.live}&once=1`, { source: document.body, swap: "none", timeout: SILENCE_MS });
  };
  const begin = () => { timer ??= setInterval(poll, POLL_MS); };
  // The next message, whatever it says, takes the place of this.
  const doubt = () => {
    const told = age();
    if (!told || told.querySelector("strong")) return;
    told.classList.add("stale");
    told.setAttribute("role", "status");
    const why = document.createElement("strong");
    why.textContent = `The dashboard has not been heard of for ${SILENCE_MS / 1000} s: what you see may be old.`;
    told.prepend(why, " ");
  };
  if (live) {
    for (const failure of ["htmx:sse:error", "htmx:response:error", "htmx:error"]) live.addEventListener(failure, begin);
    live.addEventListener("htmx:sse:after:message", () => {
      heard = Date.now();
      rest();
    });
    // What somebody between says in the dashboard's place is no news of it.
    document.body.addEventListener("htmx:after:swap", (event) => {
      if (event.target === document.body && event.detail.ctx.response?.status < 400) heard = Date.now();
    });
    // The stream of a hidden page is ended, and begun again when it is looked at.
    document.addEventListener("visibilitychange", () => { heard = Date.now(); });
    setInterval(() => {
      if (document.hidden || isOver() || Date.now() - heard <= SILENCE_MS) return;
      begin();
      doubt();
    }, 1000);
  }

  // From here on keys and buttons are listened to.
  document.documentElement.dataset.ready = "";
})();
