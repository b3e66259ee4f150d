// A click on a heading sorts the table; a second click reverses the order.
for (const head of document.querySelectorAll("table.sortable th")) head.addEventListener("click", () => {
  const body = head.closest("table").tBodies[0], column = head.cellIndex;
  const up = head.dataset.up = head.dataset.up ? "" : "1";
  const value = row => { const text = row.cells[column].dataset.value ?? row.cells[column].textContent;
    return text === "" ? (up ? Infinity : -Infinity) : isNaN(text) ? text : Number(text); };
  [...body.rows].sort((a, b) => { const x = value(a), y = value(b);
    return (x < y ? -1 : x > y ? 1 : 0) * (up ? 1 : -1); }).forEach(row => body.append(row));
});
