// Elements, and numbers in words. Whatever comes from the node goes into text nodes, never into markup.

const SVG = "http://www.w3.org/2000/svg";

function fill(e, props, children) {
  for (const [k, v] of Object.entries(props || {})) {
    if (k.startsWith("on")) e.addEventListener(k.slice(2), v);
    else if (v !== null && v !== undefined && v !== false) e.setAttribute(k, v === true ? "" : v);
  }
  e.append(...children.filter((c) => c !== null && c !== undefined));
  return e;
}

export const el = (tag, props, ...children) => fill(document.createElement(tag), props, children);
export const svg = (tag, props, ...children) => fill(document.createElementNS(SVG, tag), props, children);

// set changes a text only if it is another, so that screen readers are not told the same again.
export function set(e, text) {
  if (e.textContent !== text) e.textContent = text;
}

function scaled(n, unit) {
  const prefixes = ["", "k", "M", "G", "T"];
  let i = 0;
  while (n >= 999.5 && i < prefixes.length - 1) { n /= 1000; i++; }
  return `${n >= 99.5 || i === 0 ? Math.round(n) : n.toPrecision(3)} ${prefixes[i]}${unit}`;
}

export const bits = (n) => (n === null || n === undefined ? "–" : scaled(n, "bit/s"));
export const count = (n) => n.toLocaleString("en-US");

export function duration(s) {
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min`;
  if (s < 86400) return `${Math.floor(s / 3600)} h ${Math.floor(s / 60) % 60} min`;
  return `${Math.floor(s / 86400)} d ${Math.floor(s / 3600) % 24} h`;
}

export function millis(us) {
  return us === null || us === undefined ? "–" : `${(us / 1000).toPrecision(us < 1e6 ? 2 : 3)} ms`;
}

export function percent(x) {
  return x === null || x === undefined ? "–" : `${(x * 100).toFixed(x > 0 && x < 0.1 ? 1 : 0)} %`;
}

// when is a time for people who look at the page: today's without the date.
export function when(iso) {
  const t = new Date(iso), time = t.toLocaleTimeString("sv-SE");
  return t.toDateString() === new Date().toDateString() ? time : `${t.toLocaleDateString("sv-SE")} ${time}`;
}

// tunnelState judges a tunnel with its BGP session: "", "warn" or "bad", and in words.
export function tunnelState(t, sessions) {
  const s = sessions.find((b) => b.name === t.name && b.role !== "route-server");
  if (t.state !== "up") return ["bad", "down"];
  if (t.bfd && t.bfd.state !== "up" && t.bfd.flaps > 0) return ["bad", `BFD ${t.bfd.state}`];
  if (s && s.state !== "established") return ["warn", `BGP ${s.state}`];
  return ["", "up"];
}
