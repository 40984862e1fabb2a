// The agent's page. In: /api/v1/status every two seconds, /api/v1/history every minute, /api/v1/tap while a tail is open.
// Out: text put in by textContent alone: what a log line holds is never taken for markup.

const MOST_ROWS = 1000;
const MOST_LINES = 500;
const at = (id) => document.getElementById(id);
let status = null;
let order = { key: "lag", down: true };
// What is tailed: the name of its row, and where its lines come from.
let tail = null;

function element(name, text, className) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
}

// What would turn a line's order around, or is not seen, is written out, as `taffrail tap` does.
const UNSEEN = /[\u0000-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069]/g;
const visible = (text) => text.replace(UNSEEN, (found) => "\\u" + found.charCodeAt(0).toString(16).padStart(4, "0"));

function size(bytes) {
  if (bytes === null) return "–";
  let unit = 0;
  while (bytes >= 1024 && unit < 4) { bytes /= 1024; unit += 1; }
  return (unit ? bytes.toFixed(1) : Math.round(bytes)) + " " + ["B", "KiB", "MiB", "GiB", "TiB"][unit];
}
const rate = (value) => value === null ? "–" : value.toLocaleString("en", { maximumFractionDigits: value < 10 ? 1 : 0 });
const whole = (value) => value.toLocaleString("en");
function age(seconds) {
  if (seconds < 0.05) return "–";
  if (seconds < 60) return seconds.toFixed(1) + " s";
  return seconds < 3600 ? Math.round(seconds / 60) + " min" : (seconds / 3600).toFixed(1) + " h";
}
const lost = (output) => Object.entries(output.lost_bytes).map(([reason, bytes]) => reason + " " + size(bytes)).join(", ") || "–";

// Title, the value to sort by, its text; a number unless it is said to be a name.
const OUTPUTS = [
  ["output", (o) => o.name, (o) => o.name, "name"],
  ["type", (o) => o.kind, (o) => o.kind, "name"],
  ["lines/s", (o) => o.records_per_second, (o) => rate(o.records_per_second)],
  ["bytes/s", (o) => o.bytes_per_second, (o) => size(o.bytes_per_second)],
  ["delivered", (o) => o.delivered, (o) => whole(o.delivered)],
  ["lag", (o) => o.lag_bytes, (o) => size(o.lag_bytes)],
  ["age", (o) => o.lag_seconds, (o) => age(o.lag_seconds)],
  ["in flight", (o) => o.in_flight, (o) => whole(o.in_flight)],
  ["retries", (o) => o.retries, (o) => whole(o.retries)],
  ["refused", (o) => o.refused, (o) => whole(o.refused)],
  ["parked", (o) => o.parked, (o) => whole(o.parked)],
  ["waiting", (o) => o.waiting_metadata, (o) => whole(o.waiting_metadata)],
  ["lost", () => 0, lost],
  ["to", (o) => o.destination, (o) => o.destination, "name"],
];
const CONTAINERS = [
  ["pod", (c) => c.namespace + "/" + c.pod, (c) => c.namespace + "/" + c.pod, "name"],
  ["container", (c) => c.container, (c) => c.container, "name"],
  ["output", (c) => c.output, (c) => c.output, "name"],
  ["lines/s", (c) => c.records_per_second, (c) => rate(c.records_per_second)],
  ["bytes/s", (c) => c.bytes_per_second, (c) => size(c.bytes_per_second)],
  ["delivered", (c) => c.delivered, (c) => whole(c.delivered)],
  ["lag", (c) => c.lag_bytes, (c) => size(c.lag_bytes)],
  ["age", (c) => c.lag_seconds, (c) => age(c.lag_seconds)],
  ["retained", (c) => c.retained_bytes, (c) => size(c.retained_bytes)],
  ["state", (c) => c.state, (c) => c.state, "name"],
  ["plan", (c) => c.plan, (c) => c.plan, "name"],
];

function head(table, columns, sortable) {
  const row = element("tr");
  for (const [title, , , kind] of columns) {
    const cell = element("th", sortable ? undefined : title, kind ? "" : "number");
    if (sortable) {
      const button = element("button", title);
      button.onclick = () => {
        order = { key: title, down: order.key === title ? !order.down : !kind };
        containers();
      };
      cell.append(button);
    }
    row.append(cell);
  }
  at(table).tHead.replaceChildren(row);
}

function body(table, columns, rows, first) {
  const made = rows.map((row) => {
    const line = element("tr", undefined, row.state && row.state !== "reading" ? "bad" : "");
    columns.forEach(([title, , text, kind], number) => {
      const cell = element("td", undefined, kind ? "" : "number");
      cell.dataset.title = title;
      if (number === 0 && first) {
        const button = element("button", text(row));
        button.onclick = () => first(row);
        cell.append(button);
      } else {
        cell.textContent = text(row);
      }
      if (number === columns.length - 1) cell.title = cell.textContent;
      line.append(cell);
    });
    return line;
  });
  at(table).tBodies[0].replaceChildren(...made);
}

function containers() {
  if (!status) return;
  const wanted = at("search").value;
  const column = CONTAINERS.find(([title]) => title === order.key);
  const named = (c) => (c.namespace + "/" + c.pod + "/" + c.container).includes(wanted);
  const found = status.containers.filter(named).sort((one, other) => {
    const [a, b] = [column[1](one), column[1](other)];
    const way = a === b ? 0 : (a === null ? -1 : b === null ? 1 : a < b ? -1 : 1);
    return order.down ? -way : way;
  });
  at("count").textContent = found.length + " of " + status.containers.length +
    (found.length > MOST_ROWS ? ", the first " + MOST_ROWS + " shown" : "");
  for (const cell of at("containers").tHead.rows[0].cells) {
    const sorts = cell.textContent === order.key;
    cell.setAttribute("aria-sort", sorts ? (order.down ? "descending" : "ascending") : "none");
  }
  body("containers", CONTAINERS, found.slice(0, MOST_ROWS), openTail);
}

function told() {
  at("told-none").hidden = status.told.length > 0;
  at("told").replaceChildren(...status.told.map((said) => {
    const of = [said.output, said.container].filter(Boolean).join(" ");
    const when = new Date(said.last).toLocaleTimeString();
    const times = said.count > 1 ? " (" + said.count + " times)" : "";
    return element("li", visible(when + " " + of + " " + said.message + " " + said.details + times), said.level === "error" ? "bad" : "warn");
  }));
}

// What was behind at the agent's start: nothing once it is caught up with.
function catchingUp() {
  const behind = status.outputs.filter((output) => output.catching_up);
  at("catching-up").replaceChildren(...behind.map(({ name, catching_up: now }) => {
    const left = now.seconds_left === null ? "nothing is delivered yet" : "about " + age(now.seconds_left) + " left";
    const bar = element("progress");
    bar.max = now.done_bytes + now.left_bytes;
    bar.value = now.done_bytes;
    const line = element("p");
    line.append(bar, name + " is catching up: " + size(now.left_bytes) + " wait, " + size(now.behind_bytes) +
      " at the start; " + size(now.bytes_per_second) + "/s, " + left);
    return line;
  }));
}

async function refresh() {
  try {
    const answer = await fetch("/api/v1/status", { cache: "no-store" });
    if (!answer.ok) throw new Error(await answer.text());
    status = await answer.json();
    const agent = status.agent;
    at("agent").textContent = [agent.version, "node " + agent.node, "cluster " + agent.cluster, "up " + age(agent.uptime_seconds),
      size(agent.resident_bytes) + " of memory", "retained " + size(agent.retained_bytes), agent.config || "no configuration file"].join(" · ");
    const troubles = [agent.health, agent.ready].filter((said) => said !== "ok");
    at("trouble").textContent = troubles.join("; ");
    at("trouble").hidden = troubles.length === 0;
    body("outputs", OUTPUTS, status.outputs);
    catchingUp();
    containers();
    told();
    follow();
  } catch (error) {
    at("trouble").textContent = "the agent does not answer: " + error.message + "; what is shown is old";
    at("trouble").hidden = false;
  }
  setTimeout(refresh, document.hidden ? 10000 : 2000);
}

function plot(title, values, text) {
  const space = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(space, "svg");
  const line = document.createElementNS(space, "polyline");
  const most = Math.max(...values, 1e-9);
  svg.setAttribute("viewBox", "0 0 59 20");
  svg.setAttribute("preserveAspectRatio", "none");
  const begin = 60 - values.length;
  line.setAttribute("points", values.map((value, minute) => (begin + minute) + "," + (19 - 18 * value / most)).join(" "));
  svg.append(line);
  const figure = element("figure");
  figure.append(svg, element("figcaption", title + ", last hour; now " + text(values[values.length - 1]) + ", most " + text(most)));
  return figure;
}

async function history() {
  try {
    const samples = await (await fetch("/api/v1/history", { cache: "no-store" })).json();
    const plots = [];
    if (samples.length > 1) {
      for (const name of Object.keys(samples[samples.length - 1].outputs)) {
        const of = (key) => samples.map((sample) => sample.outputs[name] ? sample.outputs[name][key] : 0);
        plots.push(plot(name + ": lines/s", of("records_per_second"), rate));
        plots.push(plot(name + ": lag", of("lag_bytes"), size));
      }
      plots.push(plot("memory", samples.map((sample) => sample.resident_bytes), size));
    }
    if (!plots.length) plots.push(element("p", "the last hour is drawn from the second minute on"));
    at("plots").replaceChildren(...plots);
  } catch {
    // The status says that the agent is away.
  }
  setTimeout(history, 60000);
}

const nameOf = (row) => "#" + encodeURI([row.namespace, row.pod, row.container].join("/") + "@" + row.output);

// An address with a name of ours behind its # opens that tail, once. Of an open one the route may have changed.
function follow() {
  const name = tail ? tail.name : location.hash;
  const row = name && status.containers.find((row) => nameOf(row) === name);
  if (row && tail) at("tail-plan").textContent = row.plan;
  if (row && !tail) openTail(row);
}

function openTail(row) {
  closeTail();
  location.replace(nameOf(row));
  const wanted = new URLSearchParams({ namespace: row.namespace, pod: row.pod, container: row.container, output: row.output });
  at("tail-section").hidden = false;
  at("tail-name").textContent = row.namespace + "/" + row.pod + "/" + row.container + " at " + row.output;
  at("tail-plan").textContent = row.plan;
  at("tail-state").textContent = "opening…";
  at("tail").replaceChildren();
  const lines = new EventSource("/api/v1/tap?" + wanted);
  tail = { name: nameOf(row), lines };
  lines.onmessage = (event) => {
    const line = JSON.parse(event.data);
    if (line.tap) {
      at("tail-state").textContent = "what is sent from now on is shown";
      return;
    }
    const list = at("tail");
    const low = list.scrollHeight - list.scrollTop - list.clientHeight < 40;
    const text = line.missed ? line.missed + " documents were not shown" : line.text !== undefined ? line.text : JSON.stringify(line.document);
    const level = line.document && line.document.log && line.document.log.level;
    list.append(element("li", visible(text), line.missed || level === "warn" ? "warn" : level === "error" ? "bad" : ""));
    while (list.childElementCount > MOST_LINES) list.firstElementChild.remove();
    if (low) list.scrollTop = list.scrollHeight;
  };
  lines.onerror = () => {
    at("tail-state").textContent = lines.readyState === EventSource.CLOSED
      ? "not opened: as many tails are open as may be, or the output is gone"
      : "broken off; tried again";
  };
  at("tail-section").scrollIntoView();
}

function closeTail() {
  if (tail) tail.lines.close();
  tail = null;
  if (location.hash) location.replace("#");
  at("tail-section").hidden = true;
}

head("outputs", OUTPUTS, false);
head("containers", CONTAINERS, true);
at("search").oninput = containers;
at("tail-close").onclick = closeTail;
refresh();
history();
