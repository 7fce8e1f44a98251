package observe

// accessibility is a script that returns what somebody could not read, find or
// reach: missing names, contrast below 4.5 (WCAG 2.2, 1.4.3), headings that skip
// a level, controls outside the order of the tab key.
const accessibility = `(() => {
  const problems = [], shown = (e) => e.getClientRects().length && getComputedStyle(e).visibility === "visible";
  const rgba = (s) => (s.match(/[\d.]+/g) || [0, 0, 0, 0]).map(Number);
  const channel = (v) => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
  const light = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
  const ground = (e) => {
    for (; e; e = e.parentElement) {
      const c = rgba(getComputedStyle(e).backgroundColor);
      if (c.length < 4 || c[3] === 1) return c;
    }
    return [255, 255, 255];
  };
  let texts = 0;
  for (const e of document.querySelectorAll("body *")) {
    const own = [...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
    if (!own || !shown(e) || e.closest("svg, noscript, option")) continue;
    texts++;
    const a = light(rgba(getComputedStyle(e).color)), b = light(ground(e));
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) problems.push("contrast " + ratio.toFixed(2) + " of " + e.outerHTML.slice(0, 120));
  }
  if (texts < 40) problems.push("only " + texts + " texts were looked at");
  for (const e of document.querySelectorAll("button, a, input, select, summary")) {
    if (!shown(e)) continue;
    const name = e.getAttribute("aria-label") || e.textContent.trim() || (e.labels && e.labels[0] && e.labels[0].textContent);
    if (!name) problems.push("no name: " + e.outerHTML.slice(0, 120));
    if (e.tabIndex < 0) problems.push("not reached by tab: " + e.outerHTML.slice(0, 120));
    const box = e.getBoundingClientRect();
    if (box.height < 20 && e.tagName !== "A" && e.tagName !== "SUMMARY") problems.push("too small to hit: " + e.outerHTML.slice(0, 120));
  }
  for (const e of document.querySelectorAll("svg")) {
    if (e.getAttribute("role") !== "img" || !e.getAttribute("aria-label")) problems.push("a picture without words: " + e.outerHTML.slice(0, 80));
  }
  let last = 0;
  for (const e of document.querySelectorAll("h1, h2, h3")) {
    if (!shown(e)) continue;
    const level = Number(e.tagName[1]);
    if (level > last + 1) problems.push("heading level " + level + " after " + last);
    last = level;
  }
  if (document.querySelectorAll("main").length !== 1 || !document.documentElement.lang || !document.title) problems.push("no main, language or title");
  for (const e of document.querySelectorAll("[style]")) if (!e.closest("svg")) problems.push("a style attribute: " + e.outerHTML.slice(0, 80));
  return problems;
})()`
