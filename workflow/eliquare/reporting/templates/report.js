// A click on the head of a column sorts the table by it, a second one the other way round.
for (const button of document.querySelectorAll("thead button")) {
  button.addEventListener("click", () => {
    const head = button.parentElement, body = head.closest("table").tBodies[0];
    const descending = head.getAttribute("aria-sort") === "ascending";
    for (const other of head.parentElement.cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", descending ? "descending" : "ascending");
    const key = row => {
      const cell = row.cells[head.cellIndex], words = cell.textContent.trim();
      return cell.dataset.value === undefined ? words : Number(cell.dataset.value);
    };
    const isAbsent = value => value === "–" || value === "";
    const compare = (a, b) => {
      const [left, right] = [key(a), key(b)];
      // What is absent stays last in both orders.
      if (isAbsent(left) || isAbsent(right)) return isAbsent(left) - isAbsent(right);
      const order = typeof left === "number" && typeof right === "number"
        ? left - right : String(left).localeCompare(String(right), undefined, {numeric: true});
      return descending ? -order : order;
    };
    body.append(...[...body.rows].sort(compare));
  });
}
