"use strict";
// Tables sort by a click on a heading. Without scripts they are complete, in the order of their final accuracy.
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  const headings = [...table.tHead.rows[0].cells];
  const compare = (a, b) => {
    if (a === "" || b === "") return (a === "") - (b === "");
    const [x, y] = [Number(a), Number(b)];
    return Number.isNaN(x) || Number.isNaN(y) ? a.localeCompare(b) : x - y;
  };
  headings.forEach((heading, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...heading.childNodes);
    heading.append(button);
    button.addEventListener("click", () => {
      const descending = heading.getAttribute("aria-sort") === "ascending";
      for (const other of headings) other.removeAttribute("aria-sort");
      heading.setAttribute("aria-sort", descending ? "descending" : "ascending");
      const key = (row) => row.cells[column].dataset.sort;
      const undefinedLast = (a, b) => (key(a) === "") - (key(b) === "");
      const rows = [...body.rows].sort(
        (a, b) => undefinedLast(a, b) || (descending ? -1 : 1) * compare(key(a), key(b)),
      );
      body.append(...rows);
    });
  });
}
// A table that is wider than its container is marked as wide.
const widths = new ResizeObserver((entries) => {
  for (const { target } of entries) target.classList.toggle("wide", target.scrollWidth > target.clientWidth + 1);
});
for (const place of document.querySelectorAll(".scroll")) widths.observe(place);
