// Sorts tables by their headings, filters variants on the whole page, and shows a mark's numbers
// on hover or tap. Without this script the page loses nothing but these three.
"use strict";
(() => {
  const every = (selector) => [...document.querySelectorAll(selector)];

  // --- sorting ---
  const value = (row, i) => row.cells[i].dataset.key ?? "";
  const order = (a, b, i, up) => {
    const [x, y] = [value(a, i), value(b, i)];
    if (x === "" || y === "") return (x === "") - (y === ""); // what is missing stands last
    const [m, n] = [Number(x), Number(y)];
    const sign = Number.isNaN(m) || Number.isNaN(n) ? (x < y ? -1 : x > y ? 1 : 0) : m - n;
    return up ? sign : -sign;
  };
  const sort = (head) => {
    const up = head.getAttribute("aria-sort") !== "ascending";
    for (const other of head.parentNode.cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    const body = head.closest("table").tBodies[0];
    const rows = [...body.rows].sort((a, b) => order(a, b, head.cellIndex, up));
    body.append(...rows);
  };
  for (const head of every("thead th")) {
    // No <button>: Chromium does not repeat headings that hold one on the next printed page.
    const handle = document.createElement("span");
    handle.setAttribute("role", "button");
    handle.tabIndex = 0;
    handle.append(...head.childNodes);
    head.append(handle);
    head.addEventListener("click", () => sort(head));
    handle.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      sort(head);
    });
  }

  // --- filtering: a row, point or section shows when all variants it is about do ---
  const filters = document.getElementById("filters");
  if (filters) {
    const variants = JSON.parse(filters.dataset.facets);
    const boxes = [...filters.querySelectorAll("input")];
    const marked = every("[data-variants]").map((element) => [
      element, element.dataset.variants.split(" ").map(Number),
    ]);
    const apply = () => {
      const out = {};
      for (const box of boxes) {
        const facet = box.closest("fieldset").dataset.facet;
        out[facet] ??= new Set();
        if (!box.checked) out[facet].add(box.value);
      }
      const shown = variants.map((v) => Object.keys(out).every((f) => !out[f].has(v[f])));
      for (const [element, about] of marked) {
        element.classList.toggle("filtered", !about.every((i) => shown[i]));
      }
      const n = shown.filter(Boolean).length;
      document.getElementById("shown").textContent = `(${n} of ${shown.length} shown)`;
    };
    filters.addEventListener("change", apply);
    document.getElementById("reset").addEventListener("click", () => {
      for (const box of boxes) box.checked = true;
      apply();
    });
    filters.hidden = false;
    apply();
  }

  // --- hovering ---
  const tip = document.createElement("div");
  tip.id = "tip";
  tip.setAttribute("role", "status");
  tip.hidden = true;
  document.body.append(tip);
  const marks = '.figure [role="graphics-symbol"][aria-label]';
  const show = (mark) => {
    const box = mark.getBoundingClientRect();
    tip.textContent = mark.getAttribute("aria-label");
    tip.hidden = false;
    const room = document.documentElement.clientWidth - tip.offsetWidth - 8;
    tip.style.left = `${window.scrollX + Math.max(8, Math.min(box.left, room))}px`;
    tip.style.top = `${window.scrollY + box.bottom + 6}px`;
  };
  document.addEventListener("pointerover", (event) => {
    const mark = event.target.closest(marks);
    if (mark) show(mark);
    else tip.hidden = true;
  });
  document.addEventListener("click", (event) => {
    const mark = event.target.closest(marks);
    if (mark) show(mark);
  });
  document.addEventListener("keydown", (event) => { if (event.key === "Escape") tip.hidden = true; });

  // --- printing: what is folded is opened, and closed again afterwards ---
  let opened = [];
  window.addEventListener("beforeprint", () => {
    opened = every("details:not([open]):not(.filters)");
    for (const part of opened) part.open = true;
  });
  window.addEventListener("afterprint", () => {
    for (const part of opened) part.open = false;
    opened = [];
  });
})();
