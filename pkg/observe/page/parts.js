// The tunnels, the sessions, the budgets and the events.
import { el, svg, set, bits, count, duration, millis, percent, when, tunnelState } from "./words.js";

const SPARK_W = 360, SPARK_H = 64;

// spark draws the last hour: received as an area, sent as a line, and red where the tunnel was down.
function spark(h, samples) {
  const pad = (list) => Array(Math.max(0, samples - list.length)).fill(null).concat(list);
  const tx = pad(h.tx_bits), rx = pad(h.rx_bits), up = pad(h.up);
  const top = Math.max(1, ...tx, ...rx), x = (i) => (i * SPARK_W) / (samples - 1), y = (v) => SPARK_H - 2 - ((v || 0) / top) * (SPARK_H - 8);
  let line = "", area = "", start = -1;
  for (let i = 0; i <= samples; i++) {
    const known = i < samples && rx[i] !== null;
    if (known && start < 0) { start = i; area += `M${x(i).toFixed(1)} ${SPARK_H}`; line += `M${x(i).toFixed(1)} ${y(tx[i]).toFixed(1)}`; }
    if (known) { area += `L${x(i).toFixed(1)} ${y(rx[i]).toFixed(1)}`; line += `L${x(i).toFixed(1)} ${y(tx[i]).toFixed(1)}`; }
    if (!known && start >= 0) { area += `L${x(i - 1).toFixed(1)} ${SPARK_H}Z`; start = -1; }
  }
  const gaps = up.flatMap((v, i) => (v === 0 ? [svg("rect", { class: "gap", x: x(i) - 0.5, y: 0, width: SPARK_W / samples + 1, height: SPARK_H })] : []));
  const drawing = svg("svg", { class: "spark", viewBox: `0 0 ${SPARK_W} ${SPARK_H}`, preserveAspectRatio: "none", role: "img", "aria-label": `The last hour of ${h.name}: at most ${bits(top <= 1 ? 0 : top)}` },
    ...gaps, svg("path", { class: "in", d: area }), svg("path", { class: "out", d: line }));
  return [drawing, top <= 1 ? 0 : top];
}

function pair(term, value) {
  return el("div", {}, el("dt", {}, term), el("dd", {}, value));
}

const dropWords = (n) => `${count(n)} ${n === 1 ? "packet" : "packets"} dropped since the start`;

// ipsecPairs says what an IPsec tunnel encrypts by, and what ends when.
function ipsecPairs(x) {
  const child = x.child.find((c) => c.state === "installed"), list = [];
  if (child) list.push(pair("Cipher", child.proposal), pair("New keys", child.rekey_in_s > 0 ? `in ${duration(child.rekey_in_s)}` : "due"));
  else list.push(pair("Keys", "none"));
  for (const [whose, s] of [["Our certificate", x.certificate_expires_s], ["The peer's certificate", x.peer_certificate_expires_s]]) {
    if (s !== null) list.push(pair(whose, s < 0 ? `ended ${duration(-s)} ago` : `ends in ${duration(s)}`));
  }
  return list;
}

const opened = new Set(); // tunnels whose drops are unfolded

export function showTunnels(root, status, rates, history) {
  if (!status.tunnels.length) {
    root.replaceChildren(el("p", { class: "card empty" }, "No tunnels are configured."));
    return;
  }
  const focused = document.activeElement && root.contains(document.activeElement) ? document.activeElement.closest("article").dataset.name : null;
  root.replaceChildren(...status.tunnels.map((t) => {
    const [look, state] = tunnelState(t, status.bgp), r = rates.find((x) => x.tunnel === t.name);
    const h = history.tunnels.find((x) => x.name === t.name) || { name: t.name, tx_bits: [], rx_bits: [], up: [] };
    const [drawing, top] = spark(h, 3600 / history.interval_s), dropped = Object.entries(t.drops);
    const small = [pair("MTU", count(t.mtu)), pair("Round trip", millis(t.rtt_us)), pair("Loss", percent(t.loss))];
    if (t.bfd) small.push(pair("BFD", t.bfd.state));
    if (t.rebuilt) small.push(pair("Made again", count(t.rebuilt)));
    const box = el("article", { class: "card tunnel", "data-name": t.name },
      el("h3", {}, t.name, el("span", { class: `state ${look}` }, state)),
      el("p", { class: "muted to" }, `${t.encapsulation} to ${t.remote}`),
      el("dl", { class: "rates" }, pair("Sent", bits(r ? r.tx_bits : null)), pair("Received", bits(r ? r.rx_bits : null))),
      drawing, el("p", { class: "legend" }, el("span", {}, "line: sent, area: received"), el("span", {}, `peak ${bits(top)}`)),
      el("dl", { class: "small" }, ...small));
    if (t.ipsec) box.append(el("dl", { class: "small" }, ...ipsecPairs(t.ipsec)));
    if (dropped.length) {
      box.append(el("details", { open: opened.has(t.name), ontoggle: (e) => (e.target.open ? opened.add(t.name) : opened.delete(t.name)) },
        el("summary", {}, dropWords(dropped.reduce((n, [, v]) => n + v, 0))),
        el("dl", {}, ...dropped.sort((a, b) => b[1] - a[1]).flatMap(([k, v]) => [el("dt", {}, k.replaceAll("_", " ")), el("dd", { class: "n" }, count(v))]))));
    }
    return box;
  }));
  if (focused) root.querySelector(`article[data-name="${CSS.escape(focused)}"] summary`)?.focus({ preventScroll: true });
}

export function showSessions(root, budgets, status) {
  root.replaceChildren(...status.bgp.map((b) => {
    const up = b.state === "established";
    return el("tr", {},
      el("td", {}, b.name, el("span", { class: "muted" }, b.peer)),
      el("td", { class: "two" }, el("span", { class: `state ${up ? "" : "warn"}` }, b.state), b.last_error && !up ? el("span", { class: "error" }, b.last_error) : null),
      el("td", { class: "n", "data-label": "AS" }, String(b.asn)),
      el("td", { class: "n", "data-label": "Told us" }, count(b.received), b.accepted < b.received ? el("span", { class: "muted" }, `${count(b.received - b.accepted)} refused`) : null),
      el("td", { class: "n", "data-label": "We tell" }, count(b.announced)),
      el("td", { class: "n", "data-label": "Up for" }, up ? duration(b.uptime_s) : "–"),
      el("td", { class: "n", "data-label": "Flaps" }, count(b.flaps)));
  }));
  if (!status.bgp.length) root.append(el("tr", {}, el("td", { colspan: 7, class: "muted" }, "No BGP sessions are configured.")));
  budgets.replaceChildren(...status.budgets.map((b) => {
    const text = `${count(b.used)} of ${count(b.limit)} routes`;
    return el("div", {}, el("span", {}, `Room at ${b.route_server}`),
      el("meter", { min: 0, max: b.limit, value: b.used, high: b.limit * 0.8, optimum: 0, "aria-label": `Routes announced to ${b.route_server}` }, text),
      el("span", { class: b.level === "ok" ? "muted" : "error" }, b.aggregated ? `${text}, ${count(b.aggregated)} more behind aggregates` : text));
  }));
}

const SHOWN = 200; // events

function eventLine(e) {
  const line = el("li", { class: e.severity, "data-seq": e.seq },
    el("time", { datetime: e.time }, when(e.time)), el("span", { class: "kind" }, e.kind),
    el("span", { class: "text" }, e.severity === "info" ? null : el("span", { class: "hidden" }, `${e.severity}: `), e.text));
  if (e.before && e.after) line.lastChild.append(" ", el("span", { class: "change" }, `(${e.before} → ${e.after})`));
  return line;
}

export function showEvents(root, list) {
  root.replaceChildren(...list.slice().reverse().map(eventLine));
  if (!list.length) root.append(el("li", { class: "none" }, el("span", { class: "muted" }, "Nothing yet.")));
}

export function addEvent(root, e) {
  root.querySelector(".none")?.remove();
  root.prepend(eventLine(e));
  while (root.children.length > SHOWN) root.lastChild.remove();
}

export function showWarnings(root, status) {
  const key = JSON.stringify([status.warnings, status.advice]);
  if (root.dataset.key === key) return; // a button in it may have the focus
  root.dataset.key = key;
  root.hidden = !status.warnings.length;
  root.replaceChildren(...status.warnings.map((w) => {
    const a = status.advice.find((x) => x.warning === w);
    return el("li", {}, w[0].toUpperCase() + w.slice(1) + (/[.!?]$/.test(w) ? "" : "."), a ? command(a.run) : null);
  }));
}

function command(run) {
  const button = el("button", { class: "quiet", type: "button" }, "Copy");
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(run);
      set(button, "Copied");
    } catch {
      set(button, "Copy it by hand"); // only HTTPS and this machine have a clipboard
    }
  });
  return el("p", { class: "run" }, el("span", { class: "muted" }, "Next:"), el("code", {}, run), button);
}
