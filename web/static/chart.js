// The chart of what is dropped: packets a second by reason, and a table that says the same. Hosts keep counts and no
// history, so it begins when the page is opened: what it knows is how the counts on the page grow.

(() => {
  "use strict";

  // Half an hour of counts, one each two seconds.
  const KEPT = 900;
  // Lines that can be told apart; all other reasons share the last.
  const LINES = 8;
  const OTHERS = "others";
  const DASHES = [[], [9, 4], [2, 3], [9, 3, 2, 3]];
  // From one time on the axis to the next.
  const STEPS_S = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600];
  // What moves by itself is made to move rarely for whom it disturbs.
  const RARELY_MS = 10000;
  const SVG = "http://www.w3.org/2000/svg";

  const section = document.querySelector("[data-chart]");
  // It is asked for again each time: a part of a page may be replaced whole.
  const page = () => document.getElementById(section.dataset.chart);
  if (!section || !page()) return;
  const room = section.querySelector(".plot");
  const rows = section.querySelector("tbody");
  const empty = section.querySelector(".empty");
  const still = matchMedia("(prefers-reduced-motion: reduce)");
  const dark = matchMedia("(prefers-color-scheme: dark)");

  // Points in time, with packets a second by reason since the one before; null: that is not known.
  const points = [];
  // Reasons in the order in which something was first dropped by them, with the packets since then.
  const grown = new Map();
  const most = new Map();
  let last = null;
  let seen = 0;

  // Counts can be compared if the same hosts said them and none began to count anew in between.
  const take = ({ at, by, packets }) => {
    if (at <= seen) return false;
    seen = at;
    let rates = null;
    if (by !== null) {
      const before = (reason) => last.packets[reason] ?? 0;
      const reasons = Object.keys(packets);
      const same = last && last.by === by && Object.keys(last.packets).every((reason) => (packets[reason] ?? 0) >= before(reason));
      if (same) {
        rates = {};
        for (const reason of reasons) {
          const more = packets[reason] - before(reason);
          if (more === 0 && !grown.has(reason)) continue;
          grown.set(reason, (grown.get(reason) ?? 0) + more);
          rates[reason] = more / ((at - last.at) / 1000);
          most.set(reason, Math.max(most.get(reason) ?? 0, rates[reason]));
        }
      }
      // While a host is silent the last counts of all of them stay: later ones are compared with these.
      last = { at, by, packets };
    }
    points.push({ at: at / 1000, rates });
    if (points.length > KEPT) points.shift();
    return true;
  };

  const lines = () => {
    const reasons = [...grown.keys()];
    return reasons.length > LINES ? [...reasons.slice(0, LINES - 1), OTHERS] : reasons;
  };
  const rate = (rates, line, named) => {
    if (!rates) return null;
    if (line !== OTHERS) return rates[line] ?? 0;
    return Object.entries(rates).filter(([reason]) => !named.includes(reason)).reduce((sum, [, one]) => sum + one, 0);
  };

  const colour = (name) => getComputedStyle(section).getPropertyValue(name).trim();
  const look = (number) => {
    const stroke = colour(`--line-${number + 1}`);
    return { stroke, dash: DASHES[number % DASHES.length], width: 2, points: { fill: stroke } };
  };
  const clock = (at) => new Date(at * 1000).toISOString().slice(11, 19);

  let plot = null;
  let shown = "";
  const data = (named) => [points.map(({ at }) => at), ...named.map((line) => points.map(({ rates }) => rate(rates, line, named)))];
  const build = (named) => {
    plot?.destroy();
    const axis = { stroke: colour("--quiet"), grid: { stroke: colour("--edge"), width: 1 }, ticks: { stroke: colour("--edge"), width: 1 } };
    plot = new uPlot({
      width: room.clientWidth,
      height: 220,
      legend: { show: false },
      cursor: { show: false },
      scales: { y: { range: (_, __, max) => [0, Math.max(1, (max ?? 0) * 1.1)] } },
      axes: [
        { ...axis, space: 90, incrs: STEPS_S, values: (_, splits) => splits.map(clock) },
        { ...axis, size: 60 },
      ],
      series: [{}, ...named.map((label, number) => ({ label, ...look(number) }))],
    }, data(named), room);
    shown = named.join(" ");
  };

  const cell = (kind, text) => Object.assign(document.createElement(kind), { textContent: text });
  // The same line as in the chart, so that colour alone tells nothing.
  const sample = (number) => {
    const { stroke, dash } = look(number);
    const svg = document.createElementNS(SVG, "svg");
    const line = document.createElementNS(SVG, "path");
    for (const [name, value] of [["width", 36], ["height", 10], ["aria-hidden", "true"]]) svg.setAttribute(name, value);
    const drawn = [["d", "M0 5H36"], ["stroke", stroke], ["stroke-width", 3], ["stroke-dasharray", dash.join(" ")]];
    for (const [name, value] of drawn) line.setAttribute(name, value);
    svg.append(line);
    return svg;
  };
  const figure = (rates, line, named) => {
    const now = rate(rates, line, named);
    return now === null ? "not known" : now.toFixed(1);
  };
  const tell = (named) => {
    const now = points.at(-1).rates;
    const others = [...grown.keys()].filter((reason) => !named.includes(reason));
    const sum = (of, line) => (line === OTHERS ? others.reduce((all, reason) => all + of.get(reason), 0) : of.get(line));
    rows.replaceChildren(...named.map((line, number) => {
      const row = document.createElement("tr");
      const head = cell("th", ` ${line}`);
      head.scope = "row";
      head.prepend(sample(number));
      // The most of several together is not the sum of what each had at most.
      const peak = line === OTHERS ? Math.max(...points.map(({ rates }) => rate(rates, line, named) ?? 0)) : most.get(line);
      row.append(head, cell("td", figure(now, line, named)), cell("td", peak.toFixed(1)), cell("td", sum(grown, line)));
      return row;
    }));
    empty.hidden = named.length > 0;
    rows.closest(".table").hidden = named.length === 0;
  };

  let drawn = 0;
  const draw = () => {
    drawn = Date.now();
    const named = lines();
    tell(named);
    room.hidden = named.length === 0;
    if (room.hidden) return;
    if (!plot || shown !== named.join(" ")) build(named);
    else plot.setData(data(named));
  };
  const follow = () => {
    const counted = page()?.querySelector("[data-counted]");
    if (!counted || !take(JSON.parse(counted.dataset.counted))) return;
    if (!still.matches || Date.now() - drawn >= RARELY_MS) draw();
  };

  section.hidden = false;
  new MutationObserver(follow).observe(page().parentElement, { subtree: true, childList: true, attributes: true, attributeFilter: ["data-counted"] });
  new ResizeObserver(() => { if (plot && room.clientWidth > 0) plot.setSize({ width: room.clientWidth, height: 220 }); }).observe(section);
  dark.addEventListener("change", () => {
    plot?.destroy();
    plot = null;
    if (points.length > 0) draw();
  });
  follow();
  if (points.length === 0) empty.hidden = false;
})();
