"use strict";
// Sorts the table of trials by the column whose head is pressed; a second time the other way round. The original stays first.
const table = document.querySelector("table.trials");
for (const button of table ? table.querySelectorAll("th button") : []) {
  button.addEventListener("click", () => {
    const head = button.parentElement;
    const down = head.getAttribute("aria-sort") === "ascending";
    for (const other of head.parentElement.children) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const key = (row) => row.children[head.cellIndex].dataset.key ?? "";
    const body = table.tBodies[0];
    const rows = [...body.rows].filter((row) => !row.classList.contains("original"));
    const number = head.dataset.kind === "number";
    rows.sort((one, other) => {
      const [a, b] = [key(one), key(other)];
      if ((a === "") !== (b === "")) return a === "" ? 1 : -1; // what has no figure comes last, either way
      const order = number ? Number(a) - Number(b) : a.localeCompare(b);
      return (down ? -order : order) || Number(one.dataset.place) - Number(other.dataset.place);
    });
    body.append(...rows);
  });
}
