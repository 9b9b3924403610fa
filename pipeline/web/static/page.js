"use strict";
// Comfort only; every page works without it. The theme is put on before anything is drawn.
(() => {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const root = document.documentElement;
  const recall = (store, name) => { try { return store.getItem(name); } catch { return null; } };
  const keep = (store, name, value) => {
    try { value === null ? store.removeItem(name) : store.setItem(name, value); } catch { /* it may be forbidden */ }
  };
  const chosen = recall(localStorage, "theme");
  if (chosen === "dark" || chosen === "light") root.dataset.theme = chosen;

  const theme = () => root.dataset.theme || (dark.matches ? "dark" : "light");

  function offerTheme(button) {
    const name = () => { button.textContent = theme() === "dark" ? "Light" : "Dark"; };
    button.addEventListener("click", () => {
      root.dataset.theme = theme() === "dark" ? "light" : "dark";
      keep(localStorage, "theme", root.dataset.theme);
      name();
    });
    dark.addEventListener("change", name);
    name();
    button.hidden = false;
    button.setAttribute("aria-label", "Change between light and dark");
  }

  // The key goes into a header and stays in this tab; the report is the same HTML that a form gets.
  function keyed(form) {
    const report = document.getElementById("report");
    const forget = form.querySelector(".forget");
    const own = () => { if (form.from.value || form.to.value) form.period.value = "own"; };
    form.from.addEventListener("change", own);
    form.to.addEventListener("change", own);
    form.key.value = recall(sessionStorage, "key") || "";
    forget.hidden = !form.key.value;
    forget.addEventListener("click", () => {
      keep(sessionStorage, "key", null);
      form.key.value = "";
      forget.hidden = true;
      report.replaceChildren();
      form.key.focus();
    });
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      ask(form, report).then((known) => {
        keep(sessionStorage, "key", known ? form.key.value.trim() : null);
        forget.hidden = !known;
      });
    });
  }

  async function ask(form, report) {
    const fields = new URLSearchParams(new FormData(form));
    fields.delete("key");
    report.setAttribute("aria-busy", "true");
    const say = (text) => {
      const line = document.createElement("p");
      line.setAttribute("role", "alert");
      line.textContent = text;
      report.replaceChildren(line);
    };
    try {
      const headers = { Authorization: `Bearer ${form.key.value.trim()}`, Accept: "text/html" };
      const answer = await fetch(`/gas?${fields}`, { headers, credentials: "omit" });
      const text = await answer.text();
      const typed = answer.headers.get("content-type") || "";
      if (typed.startsWith("application/json")) {
        say(JSON.parse(text).error.detail);
      } else {
        const read = new DOMParser().parseFromString(text, "text/html");
        const found = read.getElementById("report");
        report.replaceChildren(...(found || read.getElementById("main")).childNodes);
      }
      return answer.status !== 401;
    } catch {
      say("The server does not answer; try again in a moment.");
      return false;
    } finally {
      report.removeAttribute("aria-busy");
    }
  }

  // What an address names is opened.
  function open() {
    const named = location.hash.startsWith("#row-") && document.getElementById(location.hash.slice(1));
    const details = named && named.querySelector("details");
    if (details) details.open = true;
  }

  document.addEventListener("DOMContentLoaded", () => {
    offerTheme(document.querySelector(".theme"));
    document.querySelectorAll("form[data-keyed]").forEach(keyed);
    open();
  });
  addEventListener("hashchange", open);
})();
