"use strict";
const $ = (id) => document.getElementById(id);
// The house's palette for series: 3:1 or more on white and on dark grounds.
const COLOURS = ["#0f7ac0", "#d55e00", "#009e73", "#c66a9e", "#a87b00", "#8a63d2", "#7f7f7f", "#0d8f9c"];
const PERIOD = 250; // milliseconds between two looks at a running attack
let about, picture, job, rows = [], seen = 0, waiting = false;

const make = (tag, attributes = {}, ...children) => {
  const one = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) {
    if (key === "text") one.textContent = value;
    else if (value !== false && value != null) one.setAttribute(key, value === true ? "" : value);
  }
  one.append(...children);
  return one;
};
const svg = (tag, attributes = {}, ...children) => {
  const one = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [key, value] of Object.entries(attributes)) one.setAttribute(key, value);
  one.append(...children);
  return one;
};
const percent = (p) => `${(100 * p).toFixed(p > 0.9995 || p === 0 ? 0 : 1)} %`;

class Refused extends Error {}
async function ask(path, options = {}) {
  let reply;
  try {
    reply = await fetch(path, options);
  } catch {
    throw new Refused("The server does not answer. Is it still running?");
  }
  const body = await reply.json();
  if (!reply.ok) throw Object.assign(new Refused(body.error), { status: reply.status, job: body.job });
  return body;
}
const post = (path, table) =>
  ask(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(table) });

function complain(error) {
  const box = $("alert");
  box.replaceChildren(make("span", { text: error.message }));
  if (error.status === 409 && error.job) {
    const stop = make("button", { type: "button", text: "Cancel the other attack" });
    stop.addEventListener("click", () => attempt(async () => {
      await post("cancel", { job: error.job });
      status("The other attack was cancelled.");
    }));
    box.append(stop);
  }
}
async function attempt(work) {
  $("alert").replaceChildren();
  try {
    await work();
  } catch (error) {
    complain(error);
    if (!(error instanceof Refused)) throw error;
  }
}
const status = (text) => { $("status").textContent = text; };

// 1. Picture
async function upload(blob, name) {
  if (job) return complain(new Refused("An attack runs: wait, or cancel it"));
  await attempt(async () => {
    const type = blob.type.startsWith("image/") ? blob.type : "application/octet-stream";
    take(await ask(`picture?name=${encodeURIComponent(name)}`, { method: "POST", headers: { "Content-Type": type }, body: blob }));
  });
}
function image(model, source, alt) {
  return make("img", { src: source, alt, class: about.models[model].side > 64 ? "fine" : false });
}
function take(given) {
  picture = given;
  const notes = [`${given.name}, ${given.size}`, ...given.notes];
  const list = make("div", { class: "pictures" });
  given.models.forEach((one, k) => {
    const top = one.classes[0];
    const answer = top ? `${one.answer}, ${percent(top.confidence)}` : one.answer;
    const caption = make("figcaption", {}, make("b", { text: answer }), make("br"), `${about.models[k].name}`);
    if (one.notes.length) caption.append(make("br"), one.notes.join(" · "));
    list.append(make("figure", {}, image(k, one.image, `The picture as ${about.models[k].name} takes it`), caption));
  });
  $("chosen").replaceChildren(make("p", { text: notes.join(" · ") + (given.label ? ` · it shows: ${given.label}` : "") }), list);
  $("label").value = given.label ?? "";
  $("start").disabled = false;
  rows = [];
  $("results").hidden = true;
  status("Ready.");
}
function wireDrop() {
  const zone = $("drop");
  zone.addEventListener("click", () => $("file").click());
  $("file").addEventListener("change", () => {
    const file = $("file").files[0];
    if (file) upload(file, file.name);
    $("file").value = "";
  });
  // Anywhere on the page: a picture dropped beside the zone would replace the page.
  addEventListener("dragover", (event) => { event.preventDefault(); zone.classList.add("over"); });
  addEventListener("dragleave", (event) => { if (!event.relatedTarget) zone.classList.remove("over"); });
  addEventListener("drop", (event) => {
    event.preventDefault();
    zone.classList.remove("over");
    const file = event.dataTransfer.files[0];
    if (file) upload(file, file.name);
    else complain(new Refused("That was no file: save the picture first, then drop it"));
  });
  addEventListener("paste", (event) => {
    const file = [...event.clipboardData.files].find((f) => f.type.startsWith("image/"));
    if (file) upload(file, "pasted picture");
  });
  $("sample").addEventListener("click", () => attempt(async () => {
    if (job) throw new Refused("An attack runs: wait, or cancel it");
    const text = $("sample-row").value.trim();
    if (text && !/^\d+$/.test(text)) throw new Refused("The row must be a whole number, or empty for any");
    take(await post("sample", { model: Number($("sample-model").value), row: text ? Number(text) : null }));
  }));
}
function wireCanvas() {
  const canvas = $("canvas"), context = canvas.getContext("2d", { alpha: false }), side = canvas.width, WIDTH = 18, STEP = 8;
  let last = null, pen = { x: side / 2, y: side / 2, down: false };
  const ink = () => ($("dark-ink").checked ? ["#000", "#fff"] : ["#fff", "#000"]);
  const clear = () => {
    context.fillStyle = ink()[1];
    context.fillRect(0, 0, side, side);
  };
  const line = (from, to) => {
    context.strokeStyle = ink()[0];
    Object.assign(context, { lineWidth: WIDTH, lineCap: "round", lineJoin: "round" });
    context.beginPath();
    context.moveTo(from.x, from.y);
    context.lineTo(to.x + 0.01, to.y);
    context.stroke();
  };
  const at = (event) => {
    const box = canvas.getBoundingClientRect();
    return { x: (event.clientX - box.left) * side / box.width, y: (event.clientY - box.top) * side / box.height };
  };
  const tell = () => { $("pen").textContent = `Pen ${pen.down ? "down" : "up"} at ${Math.round(100 * pen.x / side)} % across, ${Math.round(100 * pen.y / side)} % down.`; };
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    last = at(event);
    line(last, last);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!last) return;
    const now = at(event);
    line(last, now);
    last = now;
  });
  for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, () => { last = null; });
  canvas.addEventListener("keydown", (event) => {
    const move = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (!move && event.key !== " ") return;
    event.preventDefault();
    if (move) {
      const inside = (v) => Math.min(Math.max(v, 0), side);
      const next = { ...pen, x: inside(pen.x + STEP * move[0]), y: inside(pen.y + STEP * move[1]) };
      if (pen.down) line(pen, next);
      pen = next;
    } else {
      pen.down = !pen.down;
      if (pen.down) line(pen, pen);
    }
    tell();
  });
  $("clear").addEventListener("click", clear);
  $("dark-ink").addEventListener("change", clear);
  $("use").addEventListener("click", () => canvas.toBlob((blob) => upload(blob, "drawing"), "image/png"));
  clear();
}

// 2. Attack
function fillThreat(keepEps) {
  const one = about.threats.find((t) => t.name === $("threat").value);
  const before = $("attack").value || about.attack;
  const groups = [["Suites", true], ["Single attacks", false]].map(([name, suite]) =>
    make("optgroup", { label: name }, ...one.attacks.filter((a) => a.suite === suite).map((a) => make("option", { value: a.name, text: a.name }))));
  $("attack").replaceChildren(...groups);
  $("attack").value = one.attacks.some((a) => a.name === before) ? before : one.attacks[0].name;
  if (!keepEps) $("eps").value = one.eps;
  describe();
}
function describe() {
  const one = about.threats.find((t) => t.name === $("threat").value).attacks.find((a) => a.name === $("attack").value);
  const passes = one.passes ? ` Up to ${one.passes.toLocaleString("en")} passes per radius and model.` : "";
  $("about-attack").textContent = `${one.about}.${passes}`;
}
function running(on) {
  waiting = on;
  $("start").disabled = on || !picture;
  $("cancel").disabled = !on;
  $("bar").hidden = !on;
  for (const id of ["drop", "sample", "use"]) $(id).disabled = on;
}
async function start(event) {
  event.preventDefault();
  if (waiting) return;
  waiting = true;
  status("Starting …");
  await attempt(async () => {
    const request = { picture: picture.picture, threat: $("threat").value, eps: $("eps").value.trim(), attack: $("attack").value };
    if ($("label").value) request.label = $("label").value;
    job = (await post("attack", request)).job;
    rows = [];
    seen = 0;
    $("bar").value = 0;
    running(true);
    status("Attacking …");
    $("cancel").focus();
    await follow(request);
  });
  if (waiting) {
    waiting = false; // the request was refused
    status("Not started.");
  }
}
async function follow(request) {
  const mine = job;
  try {
    for (;;) {
      const given = await ask(`job/${mine}?after=${seen}`);
      for (const row of given.rows) keep(row);
      seen += given.rows.length;
      $("bar").value = given.share;
      if (given.state === "running" && rows.length) status(`Attacking, ${Math.round(100 * given.share)} % …`);
      if (given.rows.length) show(request, mine, true);
      if (given.state !== "running") {
        if (given.state === "failed") throw new Refused(given.error);
        status(given.state === "done" ? "Done." : "Cancelled: what was finished is shown.");
        return;
      }
      await new Promise((wake) => setTimeout(wake, PERIOD));
    }
  } catch (error) {
    status("The attack did not end.");
    throw error;
  } finally {
    const focused = document.activeElement === $("cancel");
    job = null;
    running(false);
    if (focused) $("start").focus();
  }
}

// 3. Before and after
// A later row of a model and radius replaces the one before: a point of a smaller radius was worse.
function keep(row) {
  rows = rows.filter((r) => r.model !== row.model || r.eps !== row.eps);
  rows.push(row);
  rows.sort((a, b) => a.eps - b.eps);
}
const steps = () => {
  const models = [...new Set(rows.map((r) => r.model))].sort((a, b) => a - b);
  return models.map((m) => rows.filter((r) => r.model === m));
};
function show(request, id, moved) {
  $("results").hidden = false;
  const lines = steps(), radii = [...new Set(rows.map((r) => r.eps))].sort((a, b) => a - b), slider = $("radius");
  const atEnd = Number(slider.value) >= Number(slider.max);
  slider.max = radii.length - 1;
  if (moved && (atEnd || rows.length <= lines.length)) slider.value = slider.max;
  const eps = radii[Number(slider.value)];
  const text = rows.find((r) => r.eps === eps).eps_text;
  $("radius-text").textContent = eps ? `eps = ${text}` : "the picture itself";
  slider.setAttribute("aria-valuetext", $("radius-text").textContent);
  slider.oninput = () => show(request, id, false);
  const chosen = lines.map((line) => line.find((r) => r.eps === eps) ??
    { ...line[0], asked: eps, beyond: line.find((r) => r.eps > eps)?.eps_text });
  drawChart(lines, request, eps);
  fillTable(lines, radii);
  $("answers").replaceChildren(...chosen.map((r, k) => card(lines[k][0], r, id, request)));
}
function drawChart(lines, request, here) {
  const W = 640, H = 260, left = 66, right = 14, top = 12, bottom = 46;
  const most = Math.max(...rows.map((r) => r.eps)) || 1;
  const x = (e) => left + (W - left - right) * e / most, y = (p) => top + (H - top - bottom) * (1 - p);
  const chart = svg("svg", { viewBox: `0 0 ${W} ${H}`, class: "chart", role: "img" });
  const names = lines.map((line) => about.models[line[0].model].name);
  chart.append(svg("title"));
  chart.firstChild.textContent = `Confidence in the class before the attack against eps in ${request.threat}, a line for each of ${names.join(", ")}; the table below has the numbers`;
  const say = (text, at) => { const t = svg("text", at); t.textContent = text; chart.append(t); };
  for (const p of [0, 0.5, 1]) {
    chart.append(svg("line", { x1: left, x2: W - right, y1: y(p), y2: y(p), class: "grid" }));
    say(`${100 * p} %`, { x: left - 6, y: y(p) + 5, "text-anchor": "end" });
  }
  const marks = [...new Set(lines[0].map((r) => r.eps))], last = lines[0].find((r) => r.eps === Math.max(...marks));
  say("0", { x: x(0), y: H - bottom + 20, "text-anchor": "middle" });
  if (last.eps) say(last.eps_text, { x: x(last.eps), y: H - bottom + 20, "text-anchor": "end" });
  say(`eps (${request.threat})`, { x: (left + W - right) / 2, y: H - 6, "text-anchor": "middle" });
  chart.append(svg("line", { x1: x(here), x2: x(here), y1: top, y2: H - bottom, class: "here" }));
  lines.forEach((line) => {
    const colour = COLOURS[line[0].model];
    chart.append(svg("polyline", { points: line.map((r) => `${x(r.eps)},${y(r.confidence)}`).join(" "), fill: "none", stroke: colour, "stroke-width": 2.5 }));
    for (const r of line) {
      const at = { fill: colour }, cx = x(r.eps), cy = y(r.confidence);
      // Crosses where the answer is wrong: the colour alone would not tell.
      chart.append(r.adversarial
        ? svg("path", { ...at, d: `M${cx - 5} ${cy - 5}l10 10m0-10l-10 10`, stroke: colour, "stroke-width": 2.5 })
        : svg("circle", { ...at, cx, cy, r: 5 }));
    }
  });
  const legend = make("ul", { class: "models" }, ...lines.map((line) => {
    const one = line[0], swatch = make("span", { class: "swatch" });
    swatch.style.background = COLOURS[one.model];
    return make("li", {}, swatch, `${about.models[one.model].name}: confidence in ${one.label}`);
  }));
  $("chart").replaceChildren(legend, chart);
  $("chart-about").textContent = "The lowest confidence that the attack reached within each radius; × marks a wrong answer. After a success, PGD-20 goes on to lower the confidence further. Every point is judged as a file of 8 bits.";
}
function fillTable(lines, radii) {
  const head = make("tr", {}, make("th", { scope: "col", text: "eps" }), ...lines.map((line) => make("th", { scope: "col", text: about.models[line[0].model].name })));
  const body = radii.map((eps) => make("tr", {}, make("th", { scope: "row", text: rows.find((r) => r.eps === eps).eps_text }),
    ...lines.map((line) => {
      const r = line.find((one) => one.eps === eps);
      return make("td", { text: r ? `${percent(r.confidence)}${r.adversarial ? ` ×, ${r.answer}` : ""}` : "" });
    })));
  $("numbers").replaceChildren(make("thead", {}, head), make("tbody", {}, ...body));
}
function bar(p, colour) {
  const picture = svg("svg", { viewBox: "0 0 100 12", preserveAspectRatio: "none", "aria-hidden": "true" });
  picture.append(svg("rect", { width: 100 * (p ?? 0), height: 12, ...(colour ? { fill: colour } : { class: "before" }) }));
  return make("div", { class: "cell" }, picture, make("span", { text: p == null ? "–" : percent(p) }));
}
function card(clean, r, id, request) {
  const model = about.models[r.model], colour = COLOURS[r.model];
  const swatch = make("span", { class: "swatch" });
  swatch.style.background = colour;
  const verdict = make("p", { class: "verdict" });
  const mark = (text, tone) => make("b", { class: tone, text });
  if (clean.adversarial) verdict.append(mark("Wrong before the attack", "warn"), `: it says ${clean.answer}, the picture shows ${r.label}.`);
  else if (r.adversarial) verdict.append(mark("✗ Fooled", "bad"), `: ${r.label} became `, make("b", { text: r.answer }), ` (${percent(r.classes[0].confidence)}).`);
  else if (!r.eps && !r.beyond) verdict.append(r.asked ? "Not attacked at this radius" : "The picture itself", `: ${r.label}, ${percent(r.confidence)} confident.`);
  else if (r.beyond) verdict.append(mark("✓ Still right", "good"), `: the attack failed at eps ${r.beyond}, so it was not tried at this smaller one.`);
  else verdict.append(mark("✓ Still right", "good"), `: ${r.label}, ${percent(r.confidence)} confident after the attack.`);
  const figure = (source, text) => make("figure", {}, image(r.model, source, `${text}, ${model.name}`), make("figcaption", { text }));
  const pictures = make("div", { class: "pictures" }, figure(clean.image, "before"), figure(r.image, "after"), figure(r.difference, "difference × 10"));
  const of = (list, name) => list.find((c) => c.name === name)?.confidence;
  const names = [...new Set([...r.classes, ...clean.classes].sort((a, b) => b.confidence - a.confidence).map((c) => c.name))].slice(0, 6);
  const body = names.map((name) => make("tr", { class: name === r.answer ? "top" : false }, make("th", { scope: "row", text: name }),
    make("td", {}, bar(of(clean.classes, name), null)), make("td", {}, bar(of(r.classes, name), colour))));
  const table = make("table", { class: "bars" }, make("caption", { text: "Confidence by class" }),
    make("thead", {}, make("tr", {}, make("th", { scope: "col", text: "class" }), make("th", { scope: "col", text: "before" }), make("th", { scope: "col", text: "after" }))),
    make("tbody", {}, ...body));
  const facts = make("p", { class: "dim", text: r.eps && !r.beyond ? `${request.threat}, eps ${r.eps_text}: ${r.pixels} of ${r.of} pixels moved, by ${r.levels}/255 at most.` : "Not attacked." });
  const others = make("ul", { class: "elsewhere" }, ...(r.eps && !r.beyond ? r.elsewhere : []).map((o) => {
    const wrong = o.answer !== r.label;
    return make("li", {}, `The same picture on ${about.models[o.model].name}: `, mark(`${wrong ? "✗" : "✓"} ${o.answer}`, wrong ? "bad" : "good"),
      o.classes.length ? `, ${percent(o.classes[0].confidence)}` : "");
  }));
  const link = make("a", { href: `adversarial/${id}/${r.row}.png`, download: "", text: "Download the picture after the attack (PNG)" });
  return make("article", { class: "card", "aria-label": model.name }, make("h3", {}, swatch, model.name), verdict, pictures, table, facts, ...(others.children.length ? [others] : []), make("p", {}, link));
}

async function begin() {
  about = await ask("about");
  about.models.forEach((one, k) => {
    const swatch = make("span", { class: "swatch" });
    swatch.style.background = COLOURS[k];
    $("models").append(make("li", {}, swatch, make("b", { text: one.name }), make("span", { class: "dim", text: ` ${one.about} · ${one.input}` })));
    if (one.samples) $("sample-model").append(make("option", { value: k, text: one.name }));
  });
  $("samples").hidden = !$("sample-model").options.length;
  document.querySelector("main").classList.toggle("broad", about.models.length > 2);
  $("threat").append(...about.threats.map((t) => make("option", { value: t.name, text: t.name })));
  $("threat").value = about.threat;
  $("label").append(make("option", { value: "", text: "each model's answer" }), ...about.classes.map((name) => make("option", { value: name, text: name })));
  fillThreat(false);
  $("threat").addEventListener("change", () => fillThreat(false));
  $("attack").addEventListener("change", describe);
  $("form").addEventListener("submit", start);
  $("cancel").addEventListener("click", () => attempt(async () => {
    if (!job) return;
    status("Cancelling …");
    await post("cancel", { job });
  }));
  wireDrop();
  wireCanvas();
}
attempt(begin);
