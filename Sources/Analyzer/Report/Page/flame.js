// MARK: The flame graph

const rowHeight = 22;
// The least part of the width that a frame is drawn with.
const leastWidth = 0.0008;
const flame = { root: null, zoomed: null, needle: "", active: null, nodes: new Map() };

// The tree of frames for the chosen strategy, what is largest first. With another trace a leaf is as wide as it is in
// the one where it is wider.
function flameTree() {
  const root = { name: "all", value: 0, before: 0, after: 0, children: new Map(), parent: null, depth: 0,
    phase: "root" };
  addFlame(root, data.flame, "after");
  if (data.other) addFlame(root, data.other.flame, "before");
  const sort = (node) => {
    node.children = [...node.children.values()];
    node.children.forEach(sort);
    node.value = node.children.length > 0 ? node.children.reduce((sum, child) => sum + child.value, 0)
      : Math.max(node.before, node.after);
    node.children.sort((left, right) => right.value - left.value || (left.name < right.name ? -1 : 1));
  };
  sort(root);
  return root;
}

function addFlame(root, flame, key) {
  const index = chosenIndex();
  for (const row of flame.rows) {
    const value = row[1 + index];
    if (value <= 0) continue;
    let node = root;
    root[key] += value;
    for (const [depth, number] of row[0].entries()) {
      const name = flame.strings[number];
      let child = node.children.get(name);
      if (!child) {
        child = { name, value: 0, before: 0, after: 0, children: new Map(), parent: node, depth: depth + 1,
          phase: depth === 0 ? name : node.phase };
        node.children.set(name, child);
      }
      child[key] += value;
      node = child;
    }
  }
}

// How much a frame grew or shrank against the other trace, in shades from 1 to 4.
function changeClass(node) {
  const change = (node.after - node.before) / Math.max(node.after, node.before, 1);
  const shade = Math.min(Math.ceil(Math.abs(change) * 4), 4);
  return Math.abs(change) < 0.01 ? "" : change > 0 ? `more more${shade}` : `less less${shade}`;
}

const phaseClass = (phase) => ({ kernel: "kernel", user: "user", "no instruction": "no", root: "" })[phase] ?? "early";

function showFlame() {
  const name = flame.zoomed ? flamePath(flame.zoomed) : null;
  flame.root = flameTree();
  flame.zoomed = name && findFrame(name) || flame.root;
  byId("flame-note").textContent = flameNote();
  drawFlame();
}

function flameNote() {
  if (isNative()) return "The bare machine adds nothing: choose another strategy.";
  const index = chosenIndex();
  const saved = data.flame.saved[index];
  let note = `Where the ${cycles(chosen.added.typical)} modelled cycles that ${chosen.name} adds come from: part of ` +
    "the run, process, callers in the kernel as samples show them, symbol, instruction. The width is cycles; what " +
    "has no instruction, such as a hidden page fault, stands by its process.";
  if (saved > 0.005 * flame.root.value) {
    note += ` Not drawn: places where it saves ${cycles(saved)} against the bare machine.`;
  }
  if (data.other) {
    note += ` Compared with ${data.other.trace}, where it adds ${cycles(data.other.added[index].typical)}, ` +
      `${data.other.ratios[index]} times the bare machine: red frames take more here, blue ones less, and a frame is ` +
      "as wide as the larger of the two.";
  }
  return note;
}

const flamePath = (node) => node.parent ? [...flamePath(node.parent), node.name] : [];

function findFrame(path) {
  let node = flame.root;
  for (const name of path) {
    node = node.children.find((child) => child.name === name);
    if (!node) return null;
  }
  return node;
}

// Which frames are drawn, and where: those below the zoomed one, and its ancestors over the whole width.
function flameLayout() {
  const placed = [];
  for (let node = flame.zoomed.parent; node; node = node.parent) placed.unshift({ node, left: 0, width: 1, up: true });
  const place = (node, left, width) => {
    if (width < leastWidth && node !== flame.zoomed) return;
    placed.push({ node, left, width, up: false });
    let offset = left;
    for (const child of node.children) {
      const part = node.value > 0 ? width * child.value / node.value : 0;
      place(child, offset, part);
      offset += part;
    }
  };
  place(flame.zoomed, 0, 1);
  return placed;
}

function drawFlame(focusActive) {
  const box = byId("flame");
  if (flame.root.value <= 0) {
    box.replaceChildren();
    box.style.height = "0";
    searchFlame();
    return;
  }
  const placed = flameLayout();
  flame.nodes = new Map();
  const old = new Map([...box.children].map((button) => [button.dataset.path, button]));
  const active = placed.find(({ node }) => node === flame.active) ? flame.active : flame.zoomed;
  flame.active = active;
  const buttons = placed.map(({ node, left, width, up }) => {
    const path = JSON.stringify(flamePath(node));
    const button = old.get(path) || el("button", { type: "button", role: "treeitem", "data-path": path });
    button.className = (data.other ? changeClass(node) : phaseClass(node.phase)) + (up ? " up" : "");
    button.style.left = (left * 100).toFixed(4) + "%";
    button.style.width = (width * 100).toFixed(4) + "%";
    button.style.top = node.depth * rowHeight + "px";
    button.textContent = width > 0.02 ? node.name : "";
    button.tabIndex = node === active ? 0 : -1;
    button.setAttribute("aria-level", node.depth + 1);
    button.setAttribute("aria-label", frameText(node));
    if (node.children.length > 0) button.setAttribute("aria-expanded", "true");
    button.title = frameText(node);
    flame.nodes.set(button, node);
    return button;
  });
  box.replaceChildren(...buttons);
  box.style.height = (Math.max(...placed.map(({ node }) => node.depth)) + 1) * rowHeight + "px";
  byId("zoom-out").disabled = flame.zoomed === flame.root;
  searchFlame();
  if (focusActive) buttonOf(active)?.focus();
}

const buttonOf = (node) => [...flame.nodes].find(([, other]) => other === node)?.[0];

function frameText(node) {
  const share = flame.root.value > 0 ? node.value / flame.root.value : 0;
  if (data.other) {
    const percentage = node.before > 0 ? `, ${node.after >= node.before ? "+" : "−"}` +
      percent(Math.abs(node.after - node.before) / node.before) : ", new";
    return `${node.name}: ${cycles(node.before)} before, ${cycles(node.after)} cycles now` +
      (node.after === 0 ? ", gone" : percentage);
  }
  return `${node.name}: ${cycles(node.value)} cycles, ${percent(share)}`;
}

function zoomFlame(node, focusActive) {
  flame.zoomed = node;
  flame.active = node;
  drawFlame(focusActive);
}

// Marks what matches, and says how many frames that are and how many cycles. A frame below another match adds nothing;
// one that is too narrow to be drawn marks the frame that holds it.
function searchFlame() {
  const needle = flame.needle.toLowerCase();
  let [count, value] = [0, 0];
  const [matches, holders, drawn] = [new Set(), new Set(), new Set(flame.nodes.values())];
  if (needle) {
    const visit = (node, isBelow) => {
      const isMatch = node !== flame.root && node.name.toLowerCase().includes(needle);
      if (isMatch) {
        count++;
        matches.add(node);
        let holder = node;
        while (holder && !drawn.has(holder)) holder = holder.parent;
        if (holder && holder !== node) holders.add(holder);
        if (!isBelow) value += node.value;
      }
      for (const child of node.children) visit(child, isBelow || isMatch);
    };
    visit(flame.root, false);
  }
  for (const [button, node] of flame.nodes) {
    button.classList.toggle("hit", matches.has(node));
    button.classList.toggle("holds", holders.has(node));
  }
  const share = flame.root.value > 0 ? value / flame.root.value : 0;
  byId("found").textContent = needle ? `${count} frames match, ${cycles(value)} cycles, ${percent(share)}` : "";
}

function setSearch(text) {
  flame.needle = text.trim();
  byId("search").value = text;
  searchFlame();
}

// The frame that an arrow key leads to.
function neighbour(node, key) {
  const drawn = new Set(flame.nodes.values());
  const siblings = node.parent ? node.parent.children.filter((child) => drawn.has(child)) : [node];
  const place = siblings.indexOf(node);
  switch (key) {
    case "ArrowUp": return node.parent;
    case "ArrowDown": return node.children.find((child) => drawn.has(child));
    case "ArrowLeft": return siblings[place - 1];
    case "ArrowRight": return siblings[place + 1];
    case "Home": return flame.zoomed;
    default: return undefined;
  }
}

function prepareFlame() {
  const box = byId("flame");
  const nodeOf = (event) => flame.nodes.get(event.target.closest("button"));
  const show = (event) => {
    const node = nodeOf(event);
    if (node) byId("under").textContent = [...flamePath(node).slice(0, -1), frameText(node)].join(" › ");
  };
  box.addEventListener("mouseover", show);
  box.addEventListener("focusin", show);
  box.addEventListener("click", (event) => {
    const node = nodeOf(event);
    if (node) zoomFlame(node, true);
  });
  box.addEventListener("keydown", (event) => {
    const node = nodeOf(event);
    const next = node && neighbour(node, event.key);
    if (!next) return;
    event.preventDefault();
    const button = buttonOf(next);
    if (!button) return;
    buttonOf(flame.active).tabIndex = -1;
    flame.active = next;
    button.tabIndex = 0;
    button.focus();
  });
  byId("zoom-out").addEventListener("click", () => zoomFlame(flame.root, false));
  byId("search").addEventListener("input", (event) => {
    flame.needle = event.target.value.trim();
    searchFlame();
  });
  document.addEventListener("keydown", (event) => {
    const isTyping = /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName);
    if (event.key === "/" && !isTyping && !event.ctrlKey && !event.metaKey && !event.altKey) {
      event.preventDefault();
      byId("search").focus();
    } else if (event.key === "Escape") {
      if (flame.needle || byId("search").value) setSearch("");
      else if (flame.zoomed !== flame.root) zoomFlame(flame.root, box.contains(document.activeElement));
    }
  });
}
