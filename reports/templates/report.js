// Sorts tables by a click on a heading, and shows a point's numbers on hover, focus or tap.
// Without this script the page loses nothing but these two.
(() => {
  const value = (row, i) => row.cells[i].dataset.key ?? "";
  const order = (a, b, i, up) => {
    const [x, y] = [value(a, i), value(b, i)];
    if (x === "" || y === "") return (x === "") - (y === ""); // what is missing stands last
    const [m, n] = [Number(x), Number(y)];
    const sign = Number.isNaN(m) || Number.isNaN(n) ? (x < y ? -1 : x > y ? 1 : 0) : m - n;
    return up ? sign : -sign;
  };
  for (const button of document.querySelectorAll("thead button")) {
    button.addEventListener("click", () => {
      const head = button.closest("th");
      const up = head.getAttribute("aria-sort") !== "ascending";
      for (const other of head.parentNode.cells) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      const body = head.closest("table").tBodies[0];
      const rows = [...body.rows].sort((a, b) => order(a, b, head.cellIndex, up));
      body.append(...rows);
    });
  }
  const tip = document.createElement("div");
  tip.id = "tip";
  tip.hidden = true;
  document.body.append(tip);
  const show = (mark) => {
    const box = mark.getBoundingClientRect();
    tip.textContent = mark.getAttribute("aria-label");
    tip.hidden = false;
    const room = document.documentElement.clientWidth - tip.offsetWidth - 8;
    tip.style.left = `${window.scrollX + Math.max(8, Math.min(box.left, room))}px`;
    tip.style.top = `${window.scrollY + box.bottom + 6}px`;
  };
  for (const mark of document.querySelectorAll('.figure path[role="graphics-symbol"][aria-label]')) {
    mark.addEventListener("pointerenter", () => show(mark));
    mark.addEventListener("pointerleave", () => { tip.hidden = true; });
    mark.addEventListener("click", () => show(mark));
  }
})();
