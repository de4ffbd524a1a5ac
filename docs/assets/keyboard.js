// What scrolls sideways can be reached by the keyboard: code, and tables.
document.addEventListener("DOMContentLoaded", () => {
  const wide = () => {
    for (const box of document.querySelectorAll("pre > code, .md-typeset__scrollwrap")) {
      if (box.scrollWidth > box.clientWidth) box.tabIndex = 0;
    }
  };
  wide();
  window.addEventListener("resize", wide);
  window.addEventListener("load", wide);
});
