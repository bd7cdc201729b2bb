"use strict";
// What is shown comes from the block of JSON. Texts go into text nodes only: a guest can name its processes as it likes.
const data = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);

// An element with attributes, and children that are elements or texts.
function el(name, attributes, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes || {})) {
    if (value === undefined || value === null || value === false) continue;
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else node.setAttribute(key, value === true ? "" : value);
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined).map(
    (child) => child instanceof Node ? child : String(child)));
  return node;
}
function svg(name, attributes, ...children) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes || {})) node.setAttribute(key, value);
  node.append(...children.flat().map((child) => child instanceof Node ? child : String(child)));
  return node;
}
function fill(id, ...children) { byId(id).replaceChildren(...children.flat()); }

// Cycles with two significant digits and a unit, as the command writes them.
function cycles(value) {
  const size = Math.abs(value);
  for (const [unit, factor] of [["T", 1e12], ["G", 1e9], ["M", 1e6], ["k", 1e3]]) {
    if (size >= factor * 0.9995) {
      const scaled = value / factor;
      return scaled.toFixed(Math.abs(scaled) < 9.95 ? 1 : 0) + " " + unit;
    }
  }
  return value.toFixed(0);
}
const grouped = (value) => String(Math.round(value)).replace(/\B(?=(\d{3})+$)/g, "\u202f");
const percent = (share) => {
  const value = share * 100;
  return (Math.abs(value) >= 9.95 || value === 0 ? value.toFixed(0) : value.toFixed(1)) + "%";
};
const strategies = data.strategies;
const applicable = strategies.filter((strategy) => strategy.applicable);
let chosen = applicable.reduce((most, next) => next.ratio.typical > most.ratio.typical ? next : most, applicable[0]);
const chosenIndex = () => strategies.indexOf(chosen);
const isNative = () => chosen.name === "native";
const className = (name) => name.replace(/[A-Z]/g, (letter) => " " + letter.toLowerCase());

// MARK: What ran

function showFacts() {
  const machine = data.machine;
  byId("trace").textContent = data.trace;
  const others = applicable.filter((strategy) => strategy.name !== "native");
  const lead = byId("lead");
  if (others.length > 0) {
    const order = [...others].sort((left, right) => left.ratio.typical - right.ratio.typical);
    const [least, most] = [order[0], order[order.length - 1]];
    lead.append("Of the bare machine's cycles this run would have taken ", el("b", {}, least.ratioText[1] + " times"),
      " as many under " + least.name + " and ", el("b", {}, most.ratioText[1] + " times"),
      " as many under " + most.name + ": modelled, with the costs of " + data.costs.name + ".");
  }
  const seconds = (machine.virtual_ns / 1e9).toFixed(2);
  const facts = [
    ["kernel", machine.kernel || "not recognized"],
    ["command line", machine.command_line],
    ["machine", `${machine.cpu}, chipset ${machine.chipset}, ${Math.round(machine.memory / 1048576)} MB, one processor`],
    ["images", machine.images.map((image) =>
      `${image.role}${image.name ? " " + image.name : ""}, ${grouped(image.bytes)} bytes`).join("; ")],
    ["ran", `${grouped(machine.counts)} instructions and deliveries, ${seconds} s of virtual time, ` +
      `${grouped(machine.events)} events; ended: ${machine.outcome}`],
    ["verified", `run again for this page: ${grouped(machine.verified_events)} events and ` +
      `${grouped(machine.verified_digests)} state digests came out as recorded` +
      (machine.complete ? "" : "; the recording is incomplete, the page is about what it holds")],
    ["costs", `${data.costs.name}: ${data.costs.title}`],
    ["choices", data.choices.join("; ")],
    ["note", machine.note],
  ];
  fill("facts", facts.filter(([, value]) => value).flatMap(([key, value]) => [el("dt", {}, key), el("dd", {}, value)]));
}

// MARK: The strategies

function showStrategies() {
  const native = data.native;
  byId("cost-note").textContent = `Modelled, not measured. Ratios are to the bare machine, ${cycles(native.typical)} ` +
    `cycles (${cycles(native.low)} to ${cycles(native.high)}). A bar goes from the least to the most that any values ` +
    "within the cost table's ranges give, on one logarithmic scale; the dot is the typical value.";
  const scale = ratioScale(applicable);
  const head = el("thead", {}, el("tr", {},
    el("th", { scope: "col" }, "strategy"),
    el("th", { scope: "col", class: "range" }, axisOfRatios(scale)),
    ...["ratio", "low", "high", "cycles added"].map((text) => el("th", { scope: "col", class: "n" }, text)),
    el("th", { scope: "col", class: "n" }, "by estimates")));
  const rows = strategies.map((strategy) => {
    const name = strategy.applicable
      ? el("button", { type: "button", class: "link", onclick: () => choose(strategy.name) }, strategy.name)
      : strategy.name;
    const mark = strategy.hypothetical.length > 0 && strategy.applicable ? " †" : "";
    const head = el("th", { scope: "row", title: strategy.summary }, name, mark);
    if (!strategy.applicable) {
      return el("tr", { "data-strategy": strategy.name }, head,
        el("td", { colspan: 6, class: "soft" }, "not applicable to this guest"));
    }
    const own = strategy.name === "native";
    return el("tr", { "data-strategy": strategy.name }, head,
      el("td", { class: "range" }, rangeBar(strategy, scale)),
      el("td", { class: "n" }, el("b", {}, strategy.ratioText[1])),
      el("td", { class: "n soft" }, strategy.ratioText[0]), el("td", { class: "n soft" }, strategy.ratioText[2]),
      el("td", { class: "n" }, own ? "0" : cycles(strategy.added.typical)),
      el("td", { class: "n" }, own ? "" : Math.round(strategy.estimated * 100) + "%"));
  });
  fill("strategies", head, el("tbody", {}, rows));
  fill("cost-legend", [0.05, 0.3, 0.8].map((share, index) => el("span", {}, legendBar(share), " " + [
    "hardly any estimates", "a part of its cycles leans on estimates", "most of its cycles lean on estimates"][index])));
  const words = applicable.filter((strategy) => strategy.hypothetical.length > 0).map((strategy) =>
    el("p", {}, `† ${strategy.name}: hypothetical; ${strategy.hypothetical.join("; ")}`));
  words.push(el("p", {}, `Not part of the ratios: ${cycles(data.delay.typical)} cycles in delay loops and ` +
    `${cycles(data.idle)} idle, which are bounded by time and not by work, and ${cycles(data.boot.typical)} before the ` +
    "kernel proper."));
  fill("cost-words", words);
  showApart();
}

// Each pair of strategies: which is cheaper for any values within the ranges, if that is so.
function showApart() {
  byId("apart-note").textContent = "≈: some values within the cost table's ranges turn the order around, so the two " +
    "cannot be told apart. <: the strategy of the line is cheaper than that of the column whatever the values; >: dearer.";
  const number = (strategy) => applicable.indexOf(strategy) + 1;
  const head = el("thead", {}, el("tr", {}, el("td", {}), applicable.map((strategy) =>
    el("th", { scope: "col", title: strategy.name, "aria-label": strategy.name }, number(strategy)))));
  fill("apart", head, el("tbody", {}, applicable.map((strategy) => el("tr", { "data-strategy": strategy.name },
    el("th", { scope: "row" }, `${number(strategy)}  ${strategy.name}`), applicable.map((other) => {
      const isSame = strategy.same.includes(other.name);
      const sign = other === strategy ? "" : isSame ? "≈" : strategy.ratio.typical < other.ratio.typical ? "<" : ">";
      return el("td", { class: isSame ? "same" : "other", title: `${strategy.name} and ${other.name}` }, sign);
    })))));
}

// MARK: Hot sites

const siteTable = { key: "cycles", ascending: false, all: false, open: new Set() };
const firstSites = 25;
const siteColumns = [
  ["site", "site", false], ["instruction", "kind", false], ["ring", "ring", true], ["events", "events", true],
  ["cycles", "cycles", true], ["share", "share", true], ["per event", "each", true],
];

// Where there is no symbol the address says which site it is.
const siteName = (site) => site.symbol.startsWith("(") ? `${site.symbol} ${site.address}` : site.symbol + site.offset;

function siteRows() {
  const index = chosenIndex();
  const total = chosen.added.typical;
  const rows = data.sites.map((site, number) => ({
    number, site: siteName(site), kind: site.kind, ring: site.ring, events: site.events,
    cycles: site.cycles[index], share: total > 0 ? site.cycles[index] / total : 0,
    each: site.events > 0 ? site.cycles[index] / site.events : 0, source: site,
  })).filter((row) => isNative() ? row.events > 0 : row.cycles !== 0);
  const key = isNative() && siteTable.key === "cycles" ? "events" : siteTable.key;
  const sign = siteTable.ascending ? 1 : -1;
  rows.sort((left, right) => {
    const [a, b] = [left[key], right[key]];
    return (a < b ? -sign : a > b ? sign : 0) || left.number - right.number;
  });
  return rows;
}

function showSites() {
  const rows = siteRows();
  const shown = siteTable.all ? rows : rows.slice(0, firstSites);
  byId("sites-note").textContent = isNative() ? "The bare machine adds nothing; the sites are by events."
    : `Modelled cycles that ${chosen.name} adds at each site, outside delay loops. A site is an instruction that ` +
      "virtualization has to do with; a row opens to the instructions around it.";
  const head = el("thead", {}, el("tr", {}, siteColumns.map(([title, key, isNumber]) => el("th", {
    scope: "col", class: isNumber ? "n" : null,
    "aria-sort": siteTable.key === key ? (siteTable.ascending ? "ascending" : "descending") : null,
  }, el("button", { type: "button", "data-key": key, onclick: () => sortSites(key) }, title)))));
  const body = el("tbody", {}, shown.flatMap((row) => siteRow(row)));
  fill("sites", head, body);
  const button = byId("more-sites");
  button.hidden = rows.length <= firstSites;
  button.textContent = siteTable.all ? `Show the first ${firstSites}` : `Show all ${rows.length} sites of the table`;
}

function siteRow(row) {
  const site = row.source;
  const isOpen = siteTable.open.has(row.number);
  const id = `code-${row.number}`;
  const toggle = el("button", {
    type: "button", class: "link", "aria-expanded": String(isOpen), "aria-controls": id, title: site.address,
    onclick: () => {
      const open = !siteTable.open.has(row.number);
      if (open) siteTable.open.add(row.number); else siteTable.open.delete(row.number);
      toggle.setAttribute("aria-expanded", String(open));
      byId(id).classList.toggle("closed", !open);
    },
  }, row.site);
  const cells = el("tr", {}, el("td", { class: "mono" }, toggle), el("td", {}, row.kind),
    el("td", { class: "n" }, row.ring), el("td", { class: "n" }, grouped(row.events)),
    el("td", { class: "n" }, isNative() ? "" : cycles(row.cycles)),
    el("td", { class: "n" }, isNative() ? "" : percent(row.share)),
    el("td", { class: "n" }, isNative() || row.events === 0 ? "" : cycles(row.each)));
  const lines = site.code.flatMap(([address, bytes, text, isAt]) => {
    const line = `${isAt ? ">" : " "} ${address}  ${bytes.padEnd(22)}  ${text}\n`;
    return isAt ? [el("span", { class: "at" }, line)] : [line];
  });
  const code = el("tr", { id, class: isOpen ? "code" : "code closed" }, el("td", { colspan: siteColumns.length },
    lines.length > 0 ? el("pre", {}, lines) : el("p", { class: "soft" }, "Its memory was not mapped when it was read.")));
  return [cells, code];
}

function sortSites(key) {
  siteTable.ascending = siteTable.key === key ? !siteTable.ascending : key === "site" || key === "kind";
  siteTable.key = key;
  showSites();
  document.querySelector(`#sites button[data-key="${key}"]`).focus();
}

// MARK: Devices

const openDevices = new Set();

function showDevices() {
  const index = chosenIndex();
  const devices = new Map();
  for (const register of data.devices) {
    const device = devices.get(register.device) || { reads: 0, writes: 0, cycles: 0, registers: [] };
    device.reads += register.reads;
    device.writes += register.writes;
    device.cycles += register.cycles[index];
    device.registers.push(register);
    devices.set(register.device, device);
  }
  const order = [...devices].sort((left, right) =>
    right[1].reads + right[1].writes - left[1].reads - left[1].writes || (left[0] < right[0] ? -1 : 1));
  const head = el("thead", {}, el("tr", {}, ["device, register", "address"].map((text) =>
    el("th", { scope: "col" }, text)), ["reads", "writes", "cycles"].map((text) =>
    el("th", { scope: "col", class: "n" }, text))));
  const numbers = (entry, value) => [grouped(entry.reads), grouped(entry.writes), isNative() ? "" : cycles(value)].map(
    (text) => el("td", { class: "n" }, text));
  fill("devices", head, el("tbody", {}, order.flatMap(([name, device]) => {
    const isOpen = openDevices.has(name);
    const registers = device.registers.map((register) => el("tr", { class: isOpen ? "register" : "register closed" },
      el("td", {}, register.register), el("td", { class: "mono" }, `${register.space} ${register.address}`),
      numbers(register, register.cycles[index])));
    const toggle = el("button", {
      type: "button", class: "link", "aria-expanded": String(isOpen),
      onclick: () => {
        const open = !openDevices.has(name);
        if (open) openDevices.add(name); else openDevices.delete(name);
        toggle.setAttribute("aria-expanded", String(open));
        for (const row of registers) row.classList.toggle("closed", !open);
      },
    }, name);
    return [el("tr", {}, el("td", {}, toggle), el("td", { class: "soft" }, `${device.registers.length} registers`),
      numbers(device, device.cycles)), ...registers];
  })));
}

// MARK: Why

function showPaths() {
  byId("why-note").textContent = isNative() ? "The bare machine is what the others are compared with: it adds nothing."
    : `${chosen.name}: ${chosen.summary}. Each line is one way in which it handles something: how often it was taken, ` +
      "and what that adds, modelled, less what the bare machine would have paid for the same.";
  const head = el("thead", {}, el("tr", {}, ["event", "mechanism"].map((text) => el("th", { scope: "col" }, text)),
    ["times", "low", "cycles", "high", "by estimates"].map((text) => el("th", { scope: "col", class: "n" }, text))));
  const classes = [...chosen.classes].sort((left, right) => right[1].typical - left[1].typical);
  const numbers = (range) => [range.low, range.typical, range.high].map(
    (value, index) => el("td", { class: index === 1 ? "n" : "n soft" }, cycles(value)));
  const rows = classes.flatMap(([name, range]) => {
    const paths = chosen.paths.filter((path) => path.class === name);
    paths.sort((left, right) => right.cycles.typical - left.cycles.typical);
    return [el("tr", { class: "class" }, el("th", { scope: "rowgroup", colspan: 3 }, className(name)), numbers(range),
      el("td", {})), ...paths.map((path) => el("tr", {}, el("td", {}, path.event), el("td", { class: "soft" },
      path.mechanism), el("td", { class: "n" }, grouped(path.times)), numbers(path.cycles),
      el("td", { class: "n" }, percent(path.estimated))))];
  });
  fill("paths", isNative() ? [] : [head, el("tbody", {}, rows)]);
}

// MARK: How sure

function showDoubts() {
  const list = (texts) => el("ul", {}, texts.map((text) => el("li", {}, text)));
  const parts = [];
  if (!isNative()) {
    parts.push(el("p", {}, `${Math.round(chosen.estimated * 100)}% of the modelled cycles of ${chosen.name} lean on ` +
      `estimates: costs that nobody published for this CPU. Its ratio is between ${chosen.ratioText[0]} and ` +
      `${chosen.ratioText[2]} for any values within the table's ranges.`));
    parts.push(el("p", {}, chosen.same.length > 0
      ? `It cannot be told from ${chosen.same.join(", ")}: some values within the ranges turn the order around.`
      : "It can be told from every other strategy, whatever values within the ranges are the true ones."));
  }
  if (chosen.hypothetical.length > 0) {
    parts.push(el("h3", {}, "Hypothetical"), list(chosen.hypothetical));
  }
  if (chosen.notes.length > 0) {
    parts.push(el("h3", {}, "What this model leaves out or decides"), list(chosen.notes));
  }
  parts.push(el("h3", {}, "For every strategy"), list([
    "The guest ran on a bare machine: it chose its drivers and its code paths without knowing of a hypervisor.",
    "Delay loops and idle time are bounded by time and stay out of the ratios; so does what ran before the kernel.",
    "A cost is a count times a price. Caches and branch predictors are only in the prices.",
    "Ranges of two strategies are compared under the same values of the table, so strategies whose bars overlap can " +
      "still differ for certain.",
  ]));
  fill("doubts", parts);
}

// MARK: Choosing

function choose(name) {
  chosen = applicable.find((strategy) => strategy.name === name) || chosen;
  byId("strategy").value = chosen.name;
  byId("chosen").textContent = isNative() ? "the bare machine" :
    `${chosen.ratioText[1]} × the bare machine (${chosen.ratioText[0]} to ${chosen.ratioText[2]}), modelled` +
    (chosen.hypothetical.length > 0 ? "; † hypothetical" : "");
  for (const row of document.querySelectorAll("#strategies tr[data-strategy]")) {
    row.classList.toggle("on", row.dataset.strategy === chosen.name);
  }
  showFlame();
  showSites();
  showDevices();
  showTimeline();
  showPaths();
  showCurve();
  showDoubts();
}

function begin() {
  showFacts();
  showStrategies();
  fill("strategy", applicable.map((strategy) => el("option", { value: strategy.name },
    strategy.name + (strategy.hypothetical.length > 0 ? " †" : ""))));
  byId("strategy").addEventListener("change", (event) => choose(event.target.value));
  byId("more-sites").addEventListener("click", () => {
    siteTable.all = !siteTable.all;
    showSites();
  });
  for (const input of document.querySelectorAll('input[name="timeline"]')) {
    input.addEventListener("change", showTimeline);
  }
  prepareFlame();
  choose(chosen.name);
  document.documentElement.dataset.ready = "yes";
}
