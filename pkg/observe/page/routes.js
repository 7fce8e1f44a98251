// The routes, with a filter, and why each is as it is.
import { el, set, count } from "./words.js";

const SHOWN = 200; // rows; the filter finds the others
const AGAIN = 10000; // ms between two looks

export class Routes {
  constructor() {
    this.get = (id) => document.getElementById(id);
    this.list = [];
    this.seen = "";
    this.looked = -AGAIN;
    this.get("filter").addEventListener("input", () => this.show());
    this.get("table").addEventListener("change", () => this.show());
    this.get("routes-form").addEventListener("submit", (e) => {
      e.preventDefault();
      const target = this.get("filter").value.trim();
      if (target) this.explain(target, this.get("filter"));
    });
  }

  // follow looks again when the counts have changed.
  async follow(status) {
    const key = JSON.stringify([status.routes, status.warnings]);
    if (key === this.seen || performance.now() - this.looked < AGAIN) return;
    this.looked = performance.now();
    try {
      const answer = await (await fetch("v1/routes")).json();
      if (!answer.routes) return;
      this.seen = key;
      const order = ["refused", "remote", "site", "relay", "underlay"]; // what people ask for first
      this.list = answer.refused.map((r) => ({ ...r, table: "refused" })).concat(answer.routes);
      this.list.sort((a, b) => order.indexOf(a.table) - order.indexOf(b.table));
      this.show();
    } catch {
      // the connection is lost, which the page says; it looks again
    }
  }

  show() {
    const words = this.get("filter").value.trim().toLowerCase(), table = this.get("table").value;
    const hit = (r) => (!table || r.table === table) && [r.prefix, r.device, r.gateway, r.neighbor, r.rule].some((x) => x && x.toLowerCase().includes(words));
    const found = this.list.filter(hit);
    set(this.get("routes-count"), this.list.length ? (found.length === this.list.length ? count(found.length) : `${count(found.length)} of ${count(this.list.length)}`) : "");
    this.get("routes").replaceChildren(...found.slice(0, SHOWN).map((r) => this.row(r)));
    if (!found.length) this.get("routes").append(el("tr", {}, el("td", { colspan: 5, class: "muted wide" }, this.list.length ? "No route matches. Return explains an address all the same." : "No routes.")));
    const more = this.get("routes-more");
    more.hidden = found.length <= SHOWN;
    set(more, `The first ${SHOWN} of ${count(found.length)}; the filter finds the others.`);
  }

  row(r) {
    const refused = r.table === "refused", way = refused ? "not in the kernel" : r.type === "unreachable" ? "unreachable" : r.gateway ? `${r.device} by ${r.gateway}` : r.device;
    const button = el("button", { class: "quiet", type: "button", "aria-label": `Why ${r.prefix}?` }, "Why?");
    button.addEventListener("click", () => this.explain(r.prefix, button));
    return el("tr", {},
      el("td", { class: "mono two" }, r.prefix),
      el("td", { "data-label": "Table" }, refused ? el("span", { class: "state warn" }, "refused") : r.table),
      el("td", { "data-label": "Way" }, way),
      el("td", { class: refused ? "wide" : null, "data-label": "From" }, refused ? r.reason : r.neighbor || "pinned"),
      el("td", { class: "act" }, button));
  }

  async explain(target, from) {
    const box = this.get("why");
    let lines;
    try {
      const answer = await (await fetch(`v1/explain?target=${encodeURIComponent(target)}`)).json();
      lines = answer.error ? [answer.error.message] : answer.story;
    } catch {
      lines = ["The node does not answer."];
    }
    const close = el("button", { class: "quiet", type: "button" }, "Close");
    close.addEventListener("click", () => { box.hidden = true; from.isConnected ? from.focus() : this.get("filter").focus(); });
    box.replaceChildren(el("h3", {}, el("span", {}, `Why ${target}?`), close), el("ul", {}, ...lines.map((s) => el("li", {}, s))));
    box.hidden = false;
    box.focus({ preventScroll: true });
    box.scrollIntoView({ block: "nearest" });
  }
}
