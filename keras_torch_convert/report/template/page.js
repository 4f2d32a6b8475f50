"use strict";
// Draws the page from the data beside it. A layer is [name, shapes, parameters, proof, places in the ledger, mismatch]; side 0 is the source, side 1 the target.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const find = (id) => document.getElementById(id);
  const ROW = 24;
  const LEDGER_STEP = 200;
  const LEAST_POWER = -10;
  const PROOFS = {
    output: "proved: the layer's output equals torch's",
    model: "the whole model's outputs are equal",
    shape: "shapes and names fit; nothing else is proved",
    doubt: "unsure, or a swap would not show",
    missing: "left over, unset, or does not fit",
    excused: "left out by a rule",
  };
  const COLUMNS = ["side", "name", "shape", "type", "parameters", "status", "rule", "partner", "proof", "evidence", "doubt"];
  const css = (proof) => (proof === "shape" ? "shape-only" : proof);

  function make(tag, text = "", className = "") {
    const element = document.createElement(tag);
    if (text !== "") element.textContent = text;
    if (className) element.className = className;
    return element;
  }

  function drawn(tag, attributes) {
    const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    return element;
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

  const layers = data.layers.map((side, number) =>
    side.map(([name, shapes, size, proof, weights, mismatch], place) => ({
      side: number, place, name, shapes, size, proof, weights, mismatch: mismatch || "", lines: [], moved: false, y: -1, row: null,
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
  const byLayerName = new Map(layers[1].map((layer) => [layer.name, layer]));
  const otherEnd = (line, layer) => line.ends[1 - layer.side];
  const differs = (layer) => layer.side === 1 && data.threshold !== null && data.differences[layer.name] > data.threshold;
  const isProblem = (layer) => layer.proof === "missing" || layer.proof === "doubt" || layer.mismatch !== "" || (layer.side === 1 && layer.name === data.divergence[0]);

  const FILTERS = [
    ["all", "All", () => true],
    ["moved", "Moved", (layer) => layer.moved && layer.side === 1],
    ["unproved", "Unproved", (layer) => ["shape", "doubt", "missing"].includes(layer.proof)],
    ["problems", "Problems", isProblem],
  ];
  let filter = FILTERS[0][2];
  let chosen = null;

  function drawLists() {
    for (const side of [0, 1]) {
      find(`head-${side}`).textContent = `${data.sides[side]}: ${layers[side].length.toLocaleString("en")} layers`;
      const fragment = document.createDocumentFragment();
      for (const layer of layers[side]) {
        const row = make("div", "", `row ${css(layer.proof)}`);
        row.title = `${layer.name}  ${shapesText(layer.shapes)}`;
        row.append(make("span", String(layer.place), "number"), make("span", layer.name, "name"));
        if (layer.moved) row.append(make("span", "\u2195", "arrow"));
        if (differs(layer)) row.append(make("span", "\u2260", "unequal"));
        row.append(make("span", shapesText(layer.shapes), "shape"));
        row.addEventListener("click", () => choose(layer, false));
        layer.row = row;
        fragment.append(row);
      }
      find(`list-${side}`).append(fragment);
    }
    for (const line of lines) {
      line.path = drawn("path", { class: lineClass(line) });
      find("lines").append(line.path);
    }
  }

  const lineClass = (line) => (line.ends.some((layer) => layer.mismatch) ? "missing" : line.moved ? "moved" : "");

  // Hides what the search and the filter leave out; the partners of what is left stay, since a line needs both ends.
  function arrange() {
    const wanted = find("search").value.trim().toLowerCase().split(/\s+/).filter(Boolean);
    const hit = new Set(everyLayer.filter((layer) => filter(layer) && wanted.every((word) => layer.text.includes(word))));
    const shown = new Set(hit);
    for (const layer of hit) layer.lines.forEach((line) => shown.add(otherEnd(line, layer)));
    let most = 0;
    for (const side of layers) {
      let place = 0;
      for (const layer of side) {
        layer.row.hidden = !shown.has(layer);
        layer.y = shown.has(layer) ? ROW * place++ + ROW / 2 : -1;
      }
      most = Math.max(most, place);
    }
    const width = find("lines").clientWidth || 90;
    find("lines").setAttribute("height", most * ROW);
    for (const line of lines) {
      const [from, to] = line.ends.map((layer) => layer.y);
      line.path.style.display = from < 0 || to < 0 ? "none" : "";
      line.path.setAttribute("d", `M0 ${from}C${width / 2} ${from} ${width / 2} ${to} ${width} ${to}`);
    }
    const found = hit.size === everyLayer.length ? "" : `${hit.size.toLocaleString("en")} of ${everyLayer.length.toLocaleString("en")} layers`;
    find("shown").textContent = found;
    drawLedger(wanted);
  }

  function choose(layer, scroll) {
    for (const old of document.querySelectorAll(".chosen")) old.classList.remove("chosen", "focus");
    chosen = layer;
    if (!layer) return drawDetail();
    layer.row.classList.add("chosen", "focus");
    for (const line of layer.lines) {
      line.path.classList.add("chosen");
      otherEnd(line, layer).row.classList.add("chosen");
    }
    for (const dot of dots.get(layer.name) || []) if (layer.side === 1) dot.classList.add("chosen");
    if (scroll) {
      const box = find("scroll");
      if (layer.y < box.scrollTop + ROW || layer.y > box.scrollTop + box.clientHeight - ROW) box.scrollTop = layer.y - box.clientHeight / 2;
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
      box.append(make("p", "Choose a layer to see its weights, where they come from, and what is proved of them."));
      return;
    }
    box.append(make("h3", chosen.name), make("div", `${data.sides[chosen.side]} layer ${chosen.place}, ${chosen.size.toLocaleString("en")} parameters`));
    const others = chosen.lines.map((line) => otherEnd(line, chosen));
    if (others.length) {
      const text = make("p", `${chosen.side ? "from" : "into"} `);
      others.forEach((other, number) => {
        const link = make("a", other.name);
        link.href = "#layers";
        link.addEventListener("click", (event) => { event.preventDefault(); show(other); });
        text.append(number ? ", " : "", link);
      });
      box.append(text);
    }
    if (chosen.mismatch) box.append(make("p", chosen.mismatch));
    if (chosen.moved) box.append(make("p", "Moved: it does not stand in the same order on both sides."));
    if (chosen.side === 1 && chosen.name in data.differences) box.append(make("p", `Difference of its output: ${data.differences[chosen.name].toExponential(1)}`));
    for (const weight of chosen.weights) {
      const entry = data.ledger[weight];
      box.append(make("h4", entry[1], css(entry[8])));
      const list = make("dl");
      const facts = [["shape", `${shapeText(entry[2])} ${entry[3]}`], ["status", entry[5]], ["rule", entry[6]], [chosen.side ? "from" : "into", entry[7]],
        ["proof", PROOFS[entry[8]]], ["evidence", entry[9]], ["open", entry[10]]];
      for (const [label, text] of facts) if (text) list.append(make("dt", label), make("dd", text));
      box.append(list);
    }
    box.scrollTop = 0;
  }

  // --- filters, keys, theme ---

  function pressFilter(name) {
    for (const button of find("filters").children) button.setAttribute("aria-pressed", String(button.dataset.name === name));
    filter = FILTERS.find((one) => one[0] === name)[2];
    arrange();
  }

  function drawTools() {
    for (const [name, title, test] of FILTERS) {
      const count = everyLayer.filter(test).length;
      const button = make("button", name === "all" ? title : `${title} ${count.toLocaleString("en")}`);
      button.type = "button";
      button.dataset.name = name;
      button.addEventListener("click", () => pressFilter(name));
      find("filters").append(button);
    }
    const found = new Set(everyLayer.map((layer) => layer.proof));
    for (const [proof, words] of Object.entries(PROOFS)) {
      if (!found.has(proof)) continue;
      const entry = make("li", "", css(proof));
      entry.append(make("i"), words);
      find("legend").append(entry);
    }
    if (lines.some((line) => line.moved)) find("legend").append(make("li", "\u2195 moved against the other list", "arrow"));
    if (layers[1].some(differs)) find("legend").append(make("li", "\u2260 its output differs from torch's", "unequal"));
    find("search").addEventListener("input", arrange);
    window.addEventListener("resize", () => { arrange(); drawPlot(); });
    document.addEventListener("keydown", onKey);
    find("theme").addEventListener("click", () => {
      const dark = getComputedStyle(document.documentElement).getPropertyValue("--back").trim() === "#16191d";
      document.documentElement.dataset.theme = dark ? "light" : "dark";
    });
  }

  function step(distance) {
    const side = layers[chosen ? chosen.side : 1].filter((layer) => !layer.row.hidden);
    if (!side.length) return;
    const place = chosen ? side.indexOf(chosen) + distance : 0;
    choose(side[Math.max(0, Math.min(side.length - 1, place))], true);
  }

  function nextProblem() {
    const problems = [...layers[1], ...layers[0]].filter(isProblem);
    if (problems.length) show(problems[(problems.indexOf(chosen) + 1) % problems.length]);
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
      ArrowLeft: () => chosen && chosen.side === 1 && chosen.lines.length && choose(otherEnd(chosen.lines[0], chosen), true),
      ArrowRight: () => chosen && chosen.side === 0 && chosen.lines.length && choose(otherEnd(chosen.lines[0], chosen), true),
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
    if (!values.length) {
      find("plot-text").textContent = "No difference was measured layer by layer: that needs both models, run side by side.";
      find("plot").style.display = "none";
      return;
    }
    find("plot-text").textContent = "Each dot is a Keras layer, in the order in which it runs; height is how far the statistics of its output are from those in torch. What is below the scale stands at the bottom.";
    const plot = find("plot");
    plot.replaceChildren();
    dots.clear();
    const width = plot.clientWidth, height = plot.clientHeight, left = 54, right = 12, top = 12, bottom = 16;
    const positive = values.map(([, value]) => value).filter((value) => value > 0);
    const low = Math.max(LEAST_POWER, Math.floor(Math.log10(Math.min(1e-8, ...positive))));
    const high = Math.ceil(Math.log10(Math.max(1e-2, ...positive)));
    const x = (place) => left + ((place + 0.5) / values.length) * (width - left - right);
    const y = (value) => height - bottom - ((Math.max(Math.log10(value || 1e-300), low) - low) / (high - low)) * (height - top - bottom);
    const every = Math.ceil((high - low) / 6);
    for (let power = low; power <= high; power += every) {
      plot.append(drawn("line", { x1: left, x2: width - right, y1: y(10 ** power), y2: y(10 ** power) }));
      const label = drawn("text", { x: left - 6, y: y(10 ** power) + 4, "text-anchor": "end" });
      label.textContent = `1e${power}`;
      plot.append(label);
    }
    if (data.threshold) plot.append(drawn("line", { class: "threshold", x1: left, x2: width - right, y1: y(data.threshold), y2: y(data.threshold) }));
    values.forEach(([name, value], place) => {
      const dot = drawn("circle", { cx: x(place), cy: y(value), r: values.length > 400 ? 2.5 : 4 });
      if (data.threshold && value > data.threshold) dot.classList.add("above");
      const title = drawn("title", {});
      title.textContent = `${name}: ${value.toExponential(1)}`;
      dot.append(title);
      const layer = byLayerName.get(name);
      if (layer) dot.addEventListener("click", () => show(layer));
      dots.set(name, [...(dots.get(name) || []), dot]);
      plot.append(dot);
    });
  }

  // --- ledger ---

  const layerOfWeight = new Map(everyLayer.flatMap((layer) => layer.weights.map((weight) => [weight, layer])));
  let ledgerRows = [];
  let ledgerShown = 0;

  function drawLedger(wanted) {
    if (!data.ledger.length) {
      find("ledger-text").textContent = "Nothing was converted, so there is no ledger.";
      return;
    }
    ledgerRows = data.ledger.map((entry, number) => [entry, number]).filter(([entry]) => {
      const text = `${entry[1]}\n${entry[5]}\n${entry[6]}\n${entry[7]}`.toLowerCase();
      return wanted.every((word) => text.includes(word));
    });
    ledgerShown = 0;
    find("ledger").tBodies[0].replaceChildren();
    const all = ledgerRows.length === data.ledger.length;
    find("ledger-text").textContent = `${all ? "" : `${ledgerRows.length.toLocaleString("en")} of `}${data.ledger.length.toLocaleString("en")} weights, each with its status; the search above searches here too.`;
    moreLedger();
  }

  function moreLedger() {
    const fragment = document.createDocumentFragment();
    for (const [entry, number] of ledgerRows.slice(ledgerShown, ledgerShown + LEDGER_STEP)) {
      const row = make("tr", "", css(entry[8]));
      const texts = [entry[0] === "source" ? data.sides[0] : data.sides[1], entry[1], shapeText(entry[2]), entry[3], entry[4].toLocaleString("en"), entry[5], entry[6], entry[7]];
      texts.forEach((text, column) => row.append(make("td", text, column === 4 ? "right" : column === 1 || column === 7 ? "code" : "")));
      row.addEventListener("click", () => show(layerOfWeight.get(number)));
      fragment.append(row);
    }
    find("ledger").tBodies[0].append(fragment);
    ledgerShown = Math.min(ledgerShown + LEDGER_STEP, ledgerRows.length);
  }

  function drawLedgerHead() {
    const head = make("tr");
    COLUMNS.slice(0, 8).forEach((title, column) => head.append(make("th", title, column === 4 ? "right" : "")));
    const box = find("ledger").parentElement;
    if (data.ledger.length) {
      find("ledger").tHead.append(head);
      const seen = (entries) => entries.some((one) => one.isIntersecting) && moreLedger();
      new IntersectionObserver(seen, { root: box, rootMargin: "400px" }).observe(find("more"));
    } else box.remove();
    for (const [status, count, size, rules] of data.totals) {
      const row = make("tr");
      row.append(make("td", status), make("td", count.toLocaleString("en"), "right"), make("td", `${size.toLocaleString("en")} parameters`, "right"), make("td", rules.slice(0, 3).join("; ")));
      find("totals").append(row);
    }
  }

  // --- the rest ---

  function drawFacts() {
    find("title").textContent = data.title;
    find("verdict").className = data.state;
    if (data.divergence.length) {
      find("divergence").hidden = false;
      find("divergence").textContent = data.divergence[1];
    }
    for (const text of data.warnings) find("sentences").append(make("li", text, "warning"));
    for (const text of data.notes) find("sentences").append(make("li", text));
    for (const [label, text] of data.facts) {
      const row = make("tr");
      row.append(make("th", label), make("td", text, "code"));
      find("facts").append(row);
    }
    const [first, second] = data.tops;
    if (!first.length && !second.length) return;
    const head = make("tr");
    head.append(make("th", data.sides[0]), make("th", "", "right"), make("th", data.sides[1]), make("th", "", "right"));
    find("tops").append(head);
    for (let place = 0; place < Math.max(first.length, second.length); place += 1) {
      const row = make("tr");
      for (const side of [first[place], second[place]]) {
        row.append(make("td", side ? `${side[0]} ${side[1] || ""}` : ""), make("td", side ? side[2].toFixed(4) : "", "right"));
      }
      find("tops").append(row);
    }
  }

  drawFacts();
  drawLists();
  drawPlot();
  drawLedgerHead();
  drawTools();
  pressFilter("all");
  drawDetail();
})();
