"use strict";
(() => {
  const root = document.documentElement;
  const cases = [...document.querySelectorAll(".case")];
  const chips = [...document.querySelectorAll(".chip")];
  const search = document.getElementById("search");
  const shown = document.getElementById("shown");
  const none = document.getElementById("none");
  const expand = document.getElementById("expand");
  const theme = document.getElementById("theme");
  let outcome = "";

  function filter() {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    let count = 0;
    for (const one of cases) {
      const text = one.querySelector("summary").textContent.toLowerCase();
      const fits = (!outcome || one.dataset.outcome === outcome) && words.every((word) => text.includes(word));
      one.hidden = !fits;
      count += fits ? 1 : 0;
    }
    shown.textContent = count === cases.length ? "" : `${count} of ${cases.length} shown`;
    none.hidden = count > 0 || cases.length === 0;
    label();
  }

  function label() {
    const visible = cases.filter((one) => !one.hidden);
    expand.textContent = visible.some((one) => !one.open) ? "Open all" : "Close all";
  }

  for (const chip of chips) {
    chip.addEventListener("click", () => {
      outcome = chip.dataset.outcome;
      for (const other of chips) other.setAttribute("aria-pressed", String(other === chip));
      filter();
    });
  }
  search.addEventListener("input", filter);
  for (const one of cases) one.addEventListener("toggle", label);

  expand.addEventListener("click", () => {
    const visible = cases.filter((one) => !one.hidden);
    const open = visible.some((one) => !one.open);
    for (const one of visible) one.open = open;
    label();
  });

  const themes = ["auto", "light", "dark"];
  function paint(name) {
    if (name === "auto") delete root.dataset.theme;
    else root.dataset.theme = name;
    theme.textContent = `Theme: ${name}`;
    theme.dataset.name = name;
  }
  function remembered() {
    try { return localStorage.getItem("nnopt-theme"); } catch { return null; }
  }
  theme.addEventListener("click", () => {
    const next = themes[(themes.indexOf(theme.dataset.name) + 1) % themes.length];
    paint(next);
    try { localStorage.setItem("nnopt-theme", next); } catch { /* a page that may store nothing still changes */ }
  });
  const before = remembered();
  paint(themes.includes(before) ? before : "auto");

  function follow() {
    const target = location.hash ? document.getElementById(location.hash.slice(1)) : null;
    if (target && target.classList.contains("case")) {
      target.open = true;
      target.scrollIntoView();
    }
  }
  window.addEventListener("hashchange", follow);
  document.getElementById("tools").hidden = false;
  filter();
  follow();
})();
