// Tables sort by a click on a heading; long ones have a field that filters their rows.
(() => {
  const SORT_FROM = 4, WORDS_FROM = 12, FILTER_FROM = 15;

  const value = (row, column) => (row.cells[column]?.textContent ?? "").trim();

  // A cell's number is its first one: "93.4 [90.9, 95.3]" sorts as 93.4; "–" and words have none.
  const number = (text) => {
    const first = text.replace(/−/g, "-").match(/^[^\d\p{L}]*?(-?\d[\d,]*\.?\d*(?:e-?\d+)?)/u);
    return first ? Number(first[1].replace(/,/g, "")) : NaN;
  };

  const compare = (a, b) => {
    const [x, y] = [number(a), number(b)];
    if (!Number.isNaN(x) && !Number.isNaN(y)) return x - y;
    if (Number.isNaN(x) !== Number.isNaN(y)) return Number.isNaN(x) ? 1 : -1;
    return a.localeCompare(b);
  };

  const sort = (table, column, button) => {
    const heading = button.closest("th");
    const up = heading.getAttribute("aria-sort") !== "ascending";
    for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", up ? "ascending" : "descending");
    const body = table.tBodies[0];
    const rows = [...body.rows].sort((a, b) => {
      const order = compare(value(a, column), value(b, column));
      return up ? order : -order;
    });
    body.append(...rows);
  };

  const addSorting = (table) => {
    [...table.tHead.rows[0].cells].forEach((heading, column) => {
      if (!heading.textContent.trim()) return;
      const button = document.createElement("button");
      button.type = "button";
      button.className = "sort";
      button.append(...heading.childNodes);
      button.addEventListener("click", () => sort(table, column, button));
      heading.append(button);
    });
  };

  const addFilter = (table) => {
    const label = document.createElement("label");
    const field = document.createElement("input");
    const count = document.createElement("span");
    const rows = [...table.tBodies[0].rows];
    label.className = "filter";
    field.type = "search";
    count.setAttribute("aria-live", "polite");
    label.append("Filter ", field, " ", count);
    field.addEventListener("input", () => {
      const words = field.value.toLowerCase().split(/\s+/);
      for (const row of rows) {
        const text = row.textContent.toLowerCase();
        row.hidden = !words.every((word) => text.includes(word));
      }
      const left = rows.filter((row) => !row.hidden).length;
      count.textContent = field.value ? `${left} of ${rows.length}` : "";
    });
    (table.closest(".md-typeset__scrollwrap") ?? table).before(label);
  };

  // Few rows of words have an order of their own.
  const isSortable = (table) => {
    const rows = [...table.tBodies[0].rows];
    const isNumeric = (column) =>
      rows.filter((row) => !Number.isNaN(number(value(row, column)))).length > rows.length / 2;
    const columns = [...table.tHead.rows[0].cells].keys();
    return rows.length >= WORDS_FROM || (rows.length >= SORT_FROM && [...columns].some(isNumeric));
  };

  const begin = () => {
    for (const table of document.querySelectorAll("article table:not(.highlighttable)")) {
      if (!table.tHead || !table.tBodies[0]) continue;
      const rows = table.tBodies[0].rows.length;
      if (isSortable(table)) addSorting(table);
      if (rows >= FILTER_FROM) addFilter(table);
    }
  };
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", begin);
  else begin();
})();
