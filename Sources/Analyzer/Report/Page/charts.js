// MARK: Ranges on one scale

const barWidth = 460;

function ratioScale(entries) {
  const low = Math.min(1, ...entries.map((entry) => entry.ratio.low));
  const high = Math.max(1.05, ...entries.map((entry) => entry.ratio.high));
  const [from, to] = [Math.log(Math.max(low, 0.01)) - 0.03, Math.log(high) + 0.03];
  const place = (ratio) => 6 + (barWidth - 12) * (Math.log(Math.max(ratio, 0.01)) - from) / (to - from);
  const ticks = [];
  let last = -Infinity;
  for (const value of [0.1, 0.2, 0.5, 0.7, 0.8, 0.9, 1, 1.1, 1.2, 1.5, 2, 3, 5, 7, 10, 15, 20, 30, 50, 100, 200, 500,
    1000]) {
    const at = place(value);
    if (value < low * 0.999 || value > high || at < 0 || at > barWidth) continue;
    if (value !== 1 && (at - last < 30 || Math.abs(at - place(1)) < 30)) continue;
    ticks.push([value, at]);
    last = at;
  }
  return { place, ticks };
}

function axisOfRatios(scale) {
  return svg("svg", { viewBox: `0 0 ${barWidth} 26`, role: "img", "aria-label": "ratio to the bare machine" },
    scale.ticks.map(([value, at]) => svg("text", { x: at, y: 20, "text-anchor": "middle" }, value)));
}

let patterns = 0;
// A pattern of lines, denser the more leans on estimates.
function hatch(share) {
  const id = `hatch-${++patterns}`;
  const gap = share > 0.5 ? 4 : 8;
  const pattern = svg("pattern", { id, width: gap, height: gap, patternUnits: "userSpaceOnUse",
    patternTransform: "rotate(45)" },
  svg("rect", { width: gap, height: gap, fill: "var(--bar)", "fill-opacity": share > 0.5 ? 0.25 : 0.6 }),
  svg("line", { x1: 0, y1: 0, x2: 0, y2: gap, stroke: "var(--bar)", "stroke-width": 3 }));
  return [svg("defs", {}, pattern), `url(#${id})`];
}

function filling(share) {
  return share < 0.1 ? [null, "var(--bar)"] : hatch(share);
}

function legendBar(share) {
  const [defs, paint] = filling(share);
  return svg("svg", { viewBox: "0 0 28 12", "aria-hidden": "true" }, ...(defs ? [defs] : []),
    svg("rect", { x: 0, y: 2, width: 28, height: 8, fill: paint }));
}

function rangeBar(strategy, scale) {
  const [low, typical, high] = ["low", "typical", "high"].map((key) => scale.place(strategy.ratio[key]));
  const words = strategy.estimated > 0.5 ? "most of it by estimates"
    : strategy.estimated >= 0.1 ? "partly by estimates" : "hardly any estimates";
  const [defs, paint] = filling(strategy.estimated);
  return svg("svg", { viewBox: `0 0 ${barWidth} 26`, role: "img", "aria-label":
    `${strategy.ratioText[1]}, from ${strategy.ratioText[0]} to ${strategy.ratioText[2]}, ${words}` },
  ...(defs ? [defs] : []),
  scale.ticks.map(([value, at]) => svg("line", { class: "axis", x1: at, x2: at, y1: 0, y2: 26,
    "stroke-width": value === 1 ? 2 : 1 })),
  svg("rect", { x: low, y: 8, width: Math.max(high - low, 2), height: 10, fill: paint,
    ...(strategy.hypothetical.length > 0 ? { stroke: "var(--bar)", "stroke-dasharray": "3 2" } : {}) }),
  svg("circle", { cx: typical, cy: 13, r: 4.5, fill: "var(--ink)", stroke: "var(--paper)", "stroke-width": 1.5 }));
}

// MARK: Time

const mostSeries = 7;

function timelineSeries() {
  const isEvents = document.querySelector('input[name="timeline"]:checked').value === "events";
  const source = isEvents ? data.timeline.events : data.timeline.series[chosenIndex()];
  const all = Object.entries(source).map(([name, values]) => {
    const drawn = values.map((value) => Math.max(value, 0));
    return { name: isEvents ? name : className(name), values: drawn, sum: drawn.reduce((sum, value) => sum + value, 0) };
  }).filter((series) => series.sum > 0).sort((left, right) => right.sum - left.sum);
  const shown = all.slice(0, mostSeries);
  const rest = all.slice(mostSeries);
  if (rest.length > 0) {
    shown.push({ name: "other", sum: rest.reduce((sum, series) => sum + series.sum, 0),
      values: shown[0].values.map((_, part) => rest.reduce((sum, series) => sum + series.values[part], 0)) });
  }
  return { isEvents, series: shown };
}

function showTimeline() {
  const { isEvents, series } = timelineSeries();
  const timeline = data.timeline;
  const [width, height, left, below] = [1000, 230, 92, 74];
  if (series.length === 0) {
    fill("timeline", el("p", { class: "soft" }, "There is nothing to draw for this strategy: choose events by kind."));
    return;
  }
  const parts = timeline.parts;
  const at = (count) => left + (width - left) * (count - timeline.start) / (timeline.part * parts);
  const most = Math.max(...series[0].values.map((_, part) =>
    series.reduce((sum, one) => sum + one.values[part], 0)), 1);
  const up = (value) => height - (height - 14) * value / most;
  const base = new Array(parts).fill(0);
  const areas = series.map((one, index) => {
    const lower = [...base];
    for (let part = 0; part < parts; part++) base[part] += one.values[part];
    let path = "";
    for (let part = 0; part < parts; part++) {
      const x = at(timeline.start + part * timeline.part);
      const end = at(timeline.start + (part + 1) * timeline.part);
      path += `${part ? "L" : "M"}${x.toFixed(1)} ${up(base[part]).toFixed(1)}H${end.toFixed(1)}`;
    }
    for (let part = parts - 1; part >= 0; part--) {
      const end = at(timeline.start + (part + 1) * timeline.part);
      const x = at(timeline.start + part * timeline.part);
      path += `L${end.toFixed(1)} ${up(lower[part]).toFixed(1)}H${x.toFixed(1)}`;
    }
    return svg("path", { d: path + "Z", fill: `var(--c${Math.min(index, 7)})` }, svg("title", {}, one.name));
  });
  const seconds = timeline.part * parts / timeline.perMicrosecond / 1e6;
  const [unit, factor] = seconds < 0.002 ? ["µs", 1e6] : seconds < 2 ? ["ms", 1e3] : ["s", 1];
  const step = [1e-6, 2e-6, 5e-6, 1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000].find(
    (size) => seconds / size <= 10) || seconds / 5;
  const axis = [];
  for (let number = 0; number * step <= seconds; number++) {
    const x = left + (width - left) * number * step / seconds;
    axis.push(svg("line", { class: "axis", x1: x, x2: x, y1: height, y2: height + 4 }),
      svg("text", { x, y: height + 16, "text-anchor": number === 0 ? "start" : "middle" },
        `${+(number * step * factor).toFixed(3)} ${unit}`));
  }
  const scale = [0, 0.5, 1].flatMap((share) => [
    svg("line", { class: "axis", x1: left, x2: width, y1: up(most * share), y2: up(most * share) }),
    svg("text", { x: left - 6, y: up(most * share) + 4, "text-anchor": "end" }, cycles(most * share)),
  ]);
  const phases = timeline.phases.filter(([, , last]) => last > timeline.start).map(([name, first, last], row) => {
    const x = at(Math.max(first, timeline.start));
    const end = Math.max(at(last), x + 2);
    return svg("g", {}, svg("rect", { x, y: height + 26 + row * 11, width: end - x, height: 7,
      fill: `var(--${({ kernel: "kernel", user: "user" })[name] || "early"})`, stroke: "var(--faint)" }),
    svg("text", { x: left - 6, y: height + 33 + row * 11, "text-anchor": "end" }, name));
  });
  let free = -Infinity;
  const marks = timeline.marks.filter(([count]) => count >= timeline.start).map(([count, text]) => {
    const x = at(count);
    const label = x - free > 60;
    if (label) free = x;
    return svg("g", {}, svg("line", { x1: x, x2: x, y1: 4, y2: height, stroke: "var(--soft)",
      "stroke-dasharray": "2 3" }), svg("title", {}, text),
    ...(label ? [svg("text", { x: x + 3, y: 11 }, text.length > 28 ? text.slice(0, 27) + "…" : text)] : []));
  });
  const what = isEvents ? "Events" : `Modelled cycles that ${chosen.name} adds`;
  const picture = svg("svg", { viewBox: `0 0 ${width} ${height + below}`, role: "img", style: "width:100%",
    "aria-label": `${what} over the guest's time; ${series.map((one) => `${one.name} ${cycles(one.sum)}`).join(", ")}` },
  scale, areas, axis, phases, marks);
  const legend = el("p", { class: "legend" }, series.map((one, index) => el("span", {},
    el("span", { class: "swatch", style: `background:var(--c${Math.min(index, 7)})` }), one.name, " ",
    el("span", { class: "soft" }, cycles(one.sum)))));
  fill("timeline", el("p", { class: "note" }, `${what} in each ${seconds / parts < 0.1
    ? (1000 * seconds / parts).toPrecision(2) + " ms" : (seconds / parts).toPrecision(2) + " s"} of the guest's time, ` +
    "idle time left out" + (timeline.start > timeline.before
      ? `; the ${((timeline.start - timeline.before) / timeline.perMicrosecond / 1e6).toPrecision(2)} s before the ` +
        "kernel proper are in no result, and not drawn" : "") +
    ". The strips below are the parts of the run" + (marks.length > 0 ? "; dotted lines are marks." : ".")),
  picture, legend);
}

// MARK: Patching

function showCurve() {
  const own = data.curves.find((curve) => curve.strategy === chosen.name);
  byId("patch-note").textContent = "If instructions were rewritten in place, those first that save most, each would " +
    "cost what the in-place system of the same kind of hypervisor charges there, and no longer what the strategy " +
    "does. Modelled; what has no instruction stays as it is.";
  const usable = data.curves.filter((curve) => curve.points.length > 0);
  if (usable.length === 0) {
    fill("curve", el("p", { class: "soft" }, "No strategy has anything to gain here."));
    fill("points");
    fill("patch-first");
    return;
  }
  fill("curve", curvePicture(usable));
  if (!own || own.points.length === 0) {
    fill("points", el("caption", {}, `${chosen.name}: there is nothing to rewrite.`));
    fill("patch-first");
    return;
  }
  fill("points", el("caption", {}, `${chosen.name}, rewritten to ${own.sibling}`),
    el("thead", {}, el("tr", {}, ["sites", "cycles saved", "of its cost", "ratio then"].map((text) =>
      el("th", { scope: "col", class: "n" }, text)))),
    el("tbody", {}, el("tr", {}, ["0", "", "", chosen.ratioText[1]].map((text) => el("td", { class: "n" }, text))),
      own.points.map((point) => el("tr", {}, [point.sites, cycles(point.saved.typical), point.share === null ? "" : percent(point.share),
        point.ratioText].map((text) => el("td", { class: "n" }, text))))));
  fill("patch-first", el("p", { class: "note" }, "Those that save most, with the cycles saved:"),
    el("ol", { class: "first" }, own.first.map(([label, saved]) => el("li", {}, el("span", { class: "mono" }, label), " ",
      el("span", { class: "soft" }, cycles(saved))))));
}

function curvePicture(curves) {
  const [width, height, left, right, bottom] = [560, 270, 40, 130, 34];
  const lines = curves.map((curve) => {
    const now = strategies.find((strategy) => strategy.name === curve.strategy).ratio.typical;
    return { curve, points: [[0, now], ...curve.points.map((point) => [point.sites, point.ratio.typical])] };
  });
  const ratios = lines.flatMap((line) => line.points.map(([, ratio]) => ratio)).concat([1]);
  const [low, high] = [Math.min(...ratios), Math.max(...ratios)];
  const most = Math.max(...curves.map((curve) => curve.useful));
  const x = (sites) => left + (width - left - right) * Math.log(sites + 1) / Math.log(Math.max(most, 2) + 1);
  const [from, to] = [Math.log(Math.max(low, 0.01)) - 0.05, Math.log(high) + 0.05];
  const y = (ratio) => 8 + (height - bottom - 12) * (to - Math.log(Math.max(ratio, 0.01))) / (to - from);
  let last = Infinity;
  const grid = [0.1, 0.2, 0.3, 0.5, 0.7, 0.8, 0.9, 1, 1.1, 1.2, 1.3, 1.5, 1.7, 2, 3, 5, 7, 10, 20, 50, 100].filter(
    (ratio) => {
      const at = y(ratio);
      if (at < 6 || at > height - bottom || (ratio !== 1 && (last - at < 16 || Math.abs(at - y(1)) < 16))) return false;
      last = at;
      return true;
    }).flatMap((ratio) => [
    svg("line", { class: "axis", x1: left, x2: width - right, y1: y(ratio), y2: y(ratio),
      "stroke-width": ratio === 1 ? 2 : 1 }),
    svg("text", { x: left - 6, y: y(ratio) + 4, "text-anchor": "end" }, ratio)]);
  const ticks = [0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000].filter((sites) => sites <= most).map((sites) =>
    svg("text", { x: x(sites), y: height - 18, "text-anchor": "middle" }, sites));
  // Labels stand apart from each other.
  lines.sort((first, second) => y(first.points.at(-1)[1]) - y(second.points.at(-1)[1]));
  let free = -6;
  for (const line of lines) {
    line.label = Math.max(y(line.points.at(-1)[1]), free + 13);
    free = line.label;
  }
  const over = Math.max(0, free - (height - bottom));
  const drawn = lines.map(({ curve, points, label }) => {
    const isOwn = curve.strategy === chosen.name;
    const paint = isOwn ? "var(--accent)" : "var(--soft)";
    const [end, at] = [x(points.at(-1)[0]), y(points.at(-1)[1])];
    return svg("g", {}, svg("polyline", { points: points.map(([sites, ratio]) =>
      `${x(sites).toFixed(1)},${y(ratio).toFixed(1)}`).join(" "), fill: "none", stroke: paint,
    "stroke-width": isOwn ? 2.5 : 1, "stroke-opacity": isOwn ? 1 : 0.55 }),
    ...(isOwn ? points.map(([sites, ratio]) => svg("circle", { cx: x(sites), cy: y(ratio), r: 3, fill: paint })) : []),
    svg("polyline", { points: `${end},${at} ${width - right + 8},${label - over}`, fill: "none", stroke: paint,
      "stroke-opacity": 0.3 }),
    svg("text", { x: width - right + 11, y: label - over + 4,
      style: isOwn ? "fill:var(--accent);font-weight:700" : "" }, curve.strategy));
  });
  return svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", style: "width:100%", "aria-label":
    "Modelled ratio to the bare machine after rewriting the first sites, by strategy" }, grid, ticks, drawn,
  svg("text", { x: left, y: height - 3 }, "sites rewritten; modelled ratio to the bare machine then"));
}

begin();
