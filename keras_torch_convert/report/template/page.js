"use strict";
// Draws the page from the data beside it. Side 0 is the source, side 1 the target. A layer is
// [name, shapes, parameters, proof, positions in the ledger, mismatch].
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const find = (id) => document.getElementById(id);
  const ROW = 24;
  const LEDGER_STEP = 200;
  const MOST_PROBLEMS = 50;
  const LEAST_POWER = -10;
  // A sign for each proof, since not everybody tells the colors apart.
  const PROOFS = {
    output: ["\u25cf", "proven: the layer's output equals torch's"],
    model: ["\u25d0", "the whole model's outputs are equal"],
    shape: ["\u25cb", "shapes and names fit; nothing else is proven"],
    doubt: ["?", "unsure, or a swap would not show"],
    missing: ["\u2715", "left over, unset, or does not fit"],
    excused: ["\u2013", "left out by a rule"],
  };
  const COLUMNS = ["side", "name", "shape", "type", "parameters", "status", "rule", "partner"];
  const css = (proof) => (proof === "shape" ? "shape-only" : proof);
  const number = (value) => value.toLocaleString("en");

  function make(tag, text = "", className = "") {
    const element = document.createElement(tag);
    if (text !== "") element.textContent = text;
    if (className) element.className = className;
    return element;
  }

  function drawn(tag, attributes, text = "") {
    const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    if (text) element.textContent = text;
    return element;
  }

  function tableRow(cells, tag = "td") {
    const row = make("tr");
    for (const [text, className] of cells) row.append(make(tag, text, className));
    return row;
  }

  function layerLink(layer) {
    const link = make("a", layer.name);
    link.href = "#layers";
    link.addEventListener("click", (event) => {
      event.preventDefault();
      show(layer);
    });
    return link;
  }

  const shapeText = (shape) => `(${shape.join(",")})`;

  // Four equal shapes in a row are one text: 4x(64).
  function shapesText(shapes) {
    const parts = [];
    for (const shape of shapes.map(shapeText)) {
      const last = parts[parts.length - 1];
      if (last && last[0] === shape) last[1] += 1;
      else parts.push([shape, 1]);
    }
    return parts.map(([shape, count]) => (count > 1 ? `${count}x${shape}` : shape)).join(" ");
  }

  // --- both lists ---

  const layers = data.layers.map((list, side) =>
    list.map(([name, shapes, size, proof, weights, mismatch], position) => ({
      side, position, name, shapes, size, proof, weights, mismatch: mismatch || "",
      lines: [], moved: false, diverging: false, y: -1, row: null,
      text: [name, ...weights.map((weight) => data.ledger[weight][1])].join("\n").toLowerCase(),
    })),
  );
  const lines = data.lines.map(([left, right, moved]) => {
    const line = { ends: [layers[0][left], layers[1][right]], moved, path: null };
    line.ends.forEach((layer) => {
      layer.lines.push(line);
      layer.moved = layer.moved || moved;
    });
    return line;
  });
  const everyLayer = [...layers[0], ...layers[1]];
  const byName = layers.map((list) => new Map(list.map((layer) => [layer.name, layer])));
  const otherEnd = (line, layer) => line.ends[1 - layer.side];
  const differs = (layer) =>
    layer.side === 1 && data.threshold !== null && data.differences[layer.name] > data.threshold;

  // The layer where the models part, and the layers that its weights come from.
  function markDivergence() {
    if (!data.divergence) return;
    const keras = byName[1].get(data.divergence.layer);
    const torch = byName[0].get(data.divergence.module);
    for (const layer of [keras, torch]) if (layer) layer.diverging = true;
    if (keras) keras.lines.forEach((line) => { otherEnd(line, keras).diverging = true; });
  }

  const isProblem = (layer) =>
    ["missing", "doubt"].includes(layer.proof) || layer.mismatch !== ""
    || (layer.diverging && layer.side === 1);

  const FILTERS = [
    ["all", "All", () => true],
    ["moved", "Moved", (layer) => layer.moved && layer.side === 1],
    ["unproven", "Unproven", (layer) => ["shape", "doubt", "missing"].includes(layer.proof)],
    ["problems", "Problems", isProblem],
  ];
  let filter = FILTERS[0][2];
  let chosen = null;

  function layerRow(layer) {
    const row = make("div", "", `row ${css(layer.proof)}${layer.diverging ? " diverging" : ""}`);
    row.title = `${layer.name}  ${shapesText(layer.shapes)}`;
    row.append(make("span", PROOFS[layer.proof][0], "sign"));
    row.append(make("span", String(layer.position), "number"), make("span", layer.name, "name"));
    if (layer.diverging) row.append(make("span", "models part here", "tag"));
    if (layer.moved) row.append(make("span", "\u2195", "arrow"));
    if (differs(layer)) row.append(make("span", "\u2260", "unequal"));
    row.append(make("span", shapesText(layer.shapes), "shape"));
    row.addEventListener("click", () => choose(layer, false));
    return row;
  }

  function drawLists() {
    for (const side of [0, 1]) {
      const count = layers[side].length;
      find(`head-${side}`).textContent = `${data.sides[side]}: ${number(count)} layers`;
      const fragment = document.createDocumentFragment();
      for (const layer of layers[side]) {
        layer.row = layerRow(layer);
        fragment.append(layer.row);
      }
      find(`list-${side}`).append(fragment);
    }
    for (const line of lines) {
      const misfits = line.ends.some((layer) => layer.mismatch);
      line.path = drawn("path", { class: misfits ? "missing" : line.moved ? "moved" : "" });
      find("lines").append(line.path);
    }
  }

  // Hides what the search and the filter leave out; the partners of what is left stay, since a
  // line needs both ends.
  function arrange() {
    const words = find("search").value.trim().toLowerCase().split(/\s+/).filter(Boolean);
    const fits = (layer) => filter(layer) && words.every((word) => layer.text.includes(word));
    const hit = new Set(everyLayer.filter(fits));
    const shown = new Set(hit);
    for (const layer of hit) layer.lines.forEach((line) => shown.add(otherEnd(line, layer)));
    let most = 0;
    for (const side of layers) {
      let position = 0;
      for (const layer of side) {
        layer.row.hidden = !shown.has(layer);
        layer.y = shown.has(layer) ? ROW * position++ + ROW / 2 : -1;
      }
      most = Math.max(most, position);
    }
    const width = find("lines").clientWidth || 90;
    find("lines").setAttribute("height", most * ROW);
    for (const line of lines) {
      const [from, to] = line.ends.map((layer) => layer.y);
      const curve = `M0 ${from}C${width / 2} ${from} ${width / 2} ${to} ${width} ${to}`;
      line.path.style.display = from < 0 || to < 0 ? "none" : "";
      line.path.setAttribute("d", curve);
    }
    const counts = `${number(hit.size)} of ${number(everyLayer.length)} layers`;
    find("shown").textContent = hit.size === everyLayer.length ? "" : counts;
    drawLedger(words);
  }

  function choose(layer, scroll) {
    const old = document.querySelectorAll(".chosen");
    for (const element of old) element.classList.remove("chosen", "focus");
    chosen = layer;
    if (!layer) return drawDetail();
    layer.row.classList.add("chosen", "focus");
    for (const line of layer.lines) {
      line.path.classList.add("chosen");
      otherEnd(line, layer).row.classList.add("chosen");
    }
    for (const dot of dots.get(layer.name) || []) {
      if (layer.side === 1) dot.classList.add("chosen");
    }
    if (scroll) {
      const box = find("scroll");
      const above = layer.y < box.scrollTop + ROW;
      const below = layer.y > box.scrollTop + box.clientHeight - ROW;
      if (above || below) box.scrollTop = layer.y - box.clientHeight / 2;
    }
    drawDetail();
  }

  function show(layer) {
    if (layer.row.hidden) {
      find("search").value = "";
      pressFilter("all");
    }
    choose(layer, true);
    find("layers").scrollIntoView({ block: "nearest" });
  }

  function drawDetail() {
    const box = find("detail");
    box.replaceChildren();
    if (!chosen) {
      const invitation = "Choose a layer to see its weights, where they come from, and what is "
        + "proven of them.";
      box.append(make("p", invitation));
      return;
    }
    const place = `${data.sides[chosen.side]} layer ${chosen.position}`;
    box.append(make("h3", chosen.name));
    box.append(make("div", `${place}, ${number(chosen.size)} parameters`));
    if (chosen.lines.length) {
      const text = make("p", chosen.side ? "from " : "into ");
      chosen.lines.forEach((line, count) => {
        text.append(count ? ", " : "", layerLink(otherEnd(line, chosen)));
      });
      box.append(text);
    }
    if (chosen.mismatch) box.append(make("p", chosen.mismatch));
    if (chosen.moved) {
      box.append(make("p", "Moved: it does not stand in the same order on both sides."));
    }
    if (chosen.side === 1 && chosen.name in data.differences) {
      const size = data.differences[chosen.name].toExponential(1);
      box.append(make("p", `Difference of its output: ${size}`));
    }
    for (const weight of chosen.weights) drawWeight(box, data.ledger[weight]);
    box.scrollTop = 0;
  }

  function drawWeight(box, entry) {
    const [, name, shape, type, , status, rule, partner, proof, evidence, doubt] = entry;
    box.append(make("h4", name, css(proof)));
    const list = make("dl");
    const facts = [
      ["shape", `${shapeText(shape)} ${type}`], ["status", status], ["rule", rule],
      [chosen.side ? "from" : "into", partner], ["proof", PROOFS[proof][1]],
      ["evidence", evidence], ["open", doubt],
    ];
    for (const [label, text] of facts) if (text) list.append(make("dt", label), make("dd", text));
    box.append(list);
  }

  // --- problems: each one row, linked to its layer ---

  function problems() {
    const found = [];
    for (const layer of [...layers[1], ...layers[0]]) {
      if (layer.mismatch) {
        if (layer.side || !layer.lines.length) found.push([layer, layer.mismatch]);
      } else if (layer.proof === "missing") {
        const open = layer.weights.map((weight) => data.ledger[weight])
          .filter((entry) => entry[8] === "missing");
        found.push([layer, `${open[0][5]}: ${open.map((entry) => entry[1]).join(", ")}`]);
      } else if (layer.side && layer.proof === "doubt") {
        const doubts = layer.weights.map((weight) => data.ledger[weight][10]).filter(Boolean);
        found.push([layer, doubts[0] || PROOFS.doubt[1]]);
      }
    }
    const told = new Set(found.map(([, text]) => text));
    for (const warning of data.warnings) {
      if (told.has(warning)) continue;
      const names = [...warning.matchAll(/'([^']+)'/g)].map((match) => match[1]);
      const known = names.map((name) => byName[1].get(name) || byName[0].get(name));
      found.push([known.find(Boolean) || null, warning]);
    }
    return found;
  }

  function drawProblems() {
    const found = problems();
    if (!found.length) return;
    find("problems-part").hidden = false;
    const title = found.length === 1 ? "1 problem" : `${number(found.length)} problems`;
    find("problems-title").textContent = title;
    for (const [layer, text] of found.slice(0, MOST_PROBLEMS)) {
      const row = make("tr");
      const place = make("td", "", "code");
      if (layer) place.append(layerLink(layer));
      row.append(place, make("td", text, layer ? "" : "warning"));
      find("problems").tBodies[0].append(row);
    }
    if (found.length > MOST_PROBLEMS) {
      const rest = `and ${number(found.length - MOST_PROBLEMS)} more: press n to walk through them`;
      find("problems").tBodies[0].append(tableRow([["", ""], [rest, ""]]));
    }
  }

  // --- filters, keys, theme ---

  function pressFilter(name) {
    for (const button of find("filters").children) {
      button.setAttribute("aria-pressed", String(button.dataset.name === name));
    }
    filter = FILTERS.find((one) => one[0] === name)[2];
    arrange();
  }

  function drawTools() {
    for (const [name, title, test] of FILTERS) {
      const count = everyLayer.filter(test).length;
      const button = make("button", name === "all" ? title : `${title} ${number(count)}`);
      button.type = "button";
      button.dataset.name = name;
      button.addEventListener("click", () => pressFilter(name));
      find("filters").append(button);
    }
    const found = new Set(everyLayer.map((layer) => layer.proof));
    for (const [proof, [sign, words]] of Object.entries(PROOFS)) {
      if (!found.has(proof)) continue;
      const entry = make("li", "", css(proof));
      entry.append(make("span", sign, "sign"), words);
      find("legend").append(entry);
    }
    if (lines.some((line) => line.moved)) {
      find("legend").append(make("li", "\u2195 moved against the other list", "arrow"));
    }
    if (layers[1].some(differs)) {
      find("legend").append(make("li", "\u2260 its output differs from torch's", "unequal"));
    }
    find("search").addEventListener("input", arrange);
    window.addEventListener("resize", () => { arrange(); drawPlot(); });
    document.addEventListener("keydown", onKey);
    find("theme").addEventListener("click", () => {
      const root = document.documentElement;
      const dark = getComputedStyle(root).getPropertyValue("--back").trim() === "#16191d";
      root.dataset.theme = dark ? "light" : "dark";
    });
  }

  function step(distance) {
    const side = layers[chosen ? chosen.side : 1].filter((layer) => !layer.row.hidden);
    if (!side.length) return;
    const position = chosen ? side.indexOf(chosen) + distance : 0;
    choose(side[Math.max(0, Math.min(side.length - 1, position))], true);
  }

  function nextProblem() {
    const found = [...layers[1], ...layers[0]].filter(isProblem);
    if (found.length) show(found[(found.indexOf(chosen) + 1) % found.length]);
  }

  function crossOver(side) {
    if (chosen && chosen.side === side && chosen.lines.length) {
      choose(otherEnd(chosen.lines[0], chosen), true);
    }
  }

  function onKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const search = find("search");
    if (event.key === "Escape") {
      search.value = "";
      search.blur();
      pressFilter("all");
      choose(null, false);
      return;
    }
    if (event.target === search) return;
    const actions = {
      "/": () => search.focus(),
      ArrowDown: () => step(1),
      ArrowUp: () => step(-1),
      ArrowLeft: () => crossOver(1),
      ArrowRight: () => crossOver(0),
      n: nextProblem,
    };
    if (!(event.key in actions)) return;
    event.preventDefault();
    actions[event.key]();
  }

  // --- difference by layer ---

  const dots = new Map();

  function drawPlot() {
    const values = Object.entries(data.differences);
    const plot = find("plot");
    if (!values.length) {
      find("plot-text").textContent = "No difference was measured layer by layer: that needs "
        + "both models, run side by side.";
      plot.style.display = "none";
      return;
    }
    find("plot-text").textContent = "Each dot is a Keras layer, in the order in which it runs; "
      + "height is how far the statistics of its output are from those in torch. What is below "
      + "the scale stands at the bottom.";
    plot.replaceChildren();
    dots.clear();
    const [left, right, top, bottom] = [54, 12, 12, 16];
    const [width, height] = [plot.clientWidth, plot.clientHeight];
    const positive = values.map(([, value]) => value).filter((value) => value > 0);
    const low = Math.max(LEAST_POWER, Math.floor(Math.log10(Math.min(1e-8, ...positive))));
    const high = Math.ceil(Math.log10(Math.max(1e-2, ...positive)));
    const x = (position) => left + ((position + 0.5) / values.length) * (width - left - right);
    const y = (value) => {
      const power = Math.max(Math.log10(value || 1e-300), low);
      return height - bottom - ((power - low) / (high - low)) * (height - top - bottom);
    };
    const across = (value, name) => {
      const line = { class: name, x1: left, x2: width - right, y1: y(value), y2: y(value) };
      plot.append(drawn("line", line));
    };
    const every = Math.ceil((high - low) / 6);
    for (let power = low; power <= high; power += every) {
      across(10 ** power, "scale");
      const label = { x: left - 6, y: y(10 ** power) + 4, "text-anchor": "end" };
      plot.append(drawn("text", label, `1e${power}`));
    }
    if (data.threshold) across(data.threshold, "threshold");
    const parting = data.divergence
      ? values.findIndex(([name]) => name === data.divergence.layer) : -1;
    if (parting >= 0) {
      const at = x(parting);
      const line = { class: "parting", x1: at, x2: at, y1: top, y2: height - bottom };
      plot.append(drawn("line", line));
      const end = at > width / 2;
      const place = { x: at + (end ? -6 : 6), y: top + 10, "text-anchor": end ? "end" : "start" };
      plot.append(drawn("text", place, "models part here"));
    }
    values.forEach(([name, value], position) => drawDot(name, value, x(position), y(value)));
  }

  function drawDot(name, value, x, y) {
    const few = Object.keys(data.differences).length <= 400;
    const above = data.threshold && value > data.threshold;
    const dot = drawn("circle", { cx: x, cy: y, r: (few ? 4 : 2.5) + (above ? 1 : 0) });
    if (above) dot.classList.add("above");
    dot.append(drawn("title", {}, `${name}: ${value.toExponential(1)}`));
    const layer = byName[1].get(name);
    if (layer) dot.addEventListener("click", () => show(layer));
    dots.set(name, [...(dots.get(name) || []), dot]);
    find("plot").append(dot);
  }

  // --- ledger ---

  const layerOfWeight = new Map(
    everyLayer.flatMap((layer) => layer.weights.map((weight) => [weight, layer])));
  let ledgerRows = [];
  let ledgerShown = 0;

  function drawLedger(words) {
    if (!data.ledger.length) {
      find("ledger-text").textContent = "Nothing was converted, so there is no ledger.";
      return;
    }
    ledgerRows = data.ledger.map((entry, position) => [entry, position]).filter(([entry]) => {
      const text = [entry[1], entry[5], entry[6], entry[7]].join("\n").toLowerCase();
      return words.every((word) => text.includes(word));
    });
    ledgerShown = 0;
    find("ledger").tBodies[0].replaceChildren();
    const all = ledgerRows.length === data.ledger.length;
    const counts = `${all ? "" : `${number(ledgerRows.length)} of `}${number(data.ledger.length)}`;
    find("ledger-text").textContent = `${counts} weights, each with its status; the search above `
      + "searches here too.";
    moreLedger();
  }

  function moreLedger() {
    const fragment = document.createDocumentFragment();
    for (const [entry, position] of ledgerRows.slice(ledgerShown, ledgerShown + LEDGER_STEP)) {
      const [side, name, shape, type, size, status, rule, partner] = entry;
      const row = tableRow([
        [side === "source" ? data.sides[0] : data.sides[1], ""], [name, "code"],
        [shapeText(shape), ""], [type, ""], [number(size), "right"], [status, ""], [rule, ""],
        [partner, "code"],
      ]);
      row.className = css(entry[8]);
      row.addEventListener("click", () => show(layerOfWeight.get(position)));
      fragment.append(row);
    }
    find("ledger").tBodies[0].append(fragment);
    ledgerShown = Math.min(ledgerShown + LEDGER_STEP, ledgerRows.length);
  }

  function drawLedgerHead() {
    const box = find("ledger").parentElement;
    if (data.ledger.length) {
      const head = COLUMNS.map((title) => [title, title === "parameters" ? "right" : ""]);
      find("ledger").tHead.append(tableRow(head, "th"));
      const seen = (entries) => entries.some((one) => one.isIntersecting) && moreLedger();
      new IntersectionObserver(seen, { root: box, rootMargin: "400px" }).observe(find("more"));
    } else box.remove();
    for (const [status, count, size, rules] of data.totals) {
      find("totals").append(tableRow([
        [status, ""], [number(count), "right"], [`${number(size)} parameters`, "right"],
        [rules.slice(0, 3).join("; "), ""],
      ]));
    }
  }

  // --- the rest ---

  function drawDivergence() {
    const found = data.divergence;
    if (!found) return;
    const box = find("divergence");
    box.hidden = false;
    const list = make("dl");
    const layer = byName[1].get(found.layer);
    const place = make("dd");
    place.append("Keras layer ", layer ? layerLink(layer) : make("b", found.layer || "(inputs)"));
    if (found.module) place.append(`, in torch ${found.module}`);
    list.append(make("dt", "Where"), place);
    list.append(make("dt", "Cause"), make("dd", found.cause));
    if (found.fix) list.append(make("dt", "Fix"), make("dd", found.fix, "fix"));
    const more = make("details");
    more.append(make("summary", "As text"), make("pre", found.text));
    box.append(list, more);
  }

  function drawFacts() {
    find("title").textContent = data.title;
    find("verdict").className = data.state;
    for (const text of data.notes) find("sentences").append(make("li", text));
    for (const [label, text] of data.facts) {
      const row = tableRow([[text, "code"]]);
      row.prepend(make("th", label));
      find("facts").append(row);
    }
    const [first, second] = data.tops;
    if (!first.length && !second.length) return;
    const [one, two] = data.sides;
    find("tops").append(tableRow([[one, ""], ["", ""], [two, ""], ["", ""]], "th"));
    for (let rank = 0; rank < Math.max(first.length, second.length); rank += 1) {
      const cells = [first[rank], second[rank]].flatMap((top) => (top
        ? [[`${top[0]} ${top[1] || ""}`, ""], [top[2].toFixed(4), "right"]]
        : [["", ""], ["", ""]]));
      find("tops").append(tableRow(cells));
    }
  }

  markDivergence();
  drawFacts();
  drawDivergence();
  drawProblems();
  drawLists();
  drawPlot();
  drawLedgerHead();
  drawTools();
  pressFilter("all");
  drawDetail();
})();
