// What scrolls sideways can be reached by the keyboard: code, and tables.
document.addEventListener("DOMContentLoaded", () => {
  const boxes = document.querySelectorAll("pre > code, .md-typeset__scrollwrap");
  const reach = (box) => {
    if (box.scrollWidth > box.clientWidth) box.tabIndex = 0;
  };
  // Widths change later, too: fonts arrive, the theme moves its columns, a fold opens.
  const observer = new ResizeObserver((entries) => entries.forEach((entry) => reach(entry.target)));
  for (const box of boxes) {
    reach(box);
    observer.observe(box);
  }
});
