"use strict";
// What the HTML report does beyond showing itself: where a number comes from, the contents list, and long tables.
// Without it all text stays readable: titles tell where numbers come from, and the contents list is open.
(() => {
  const make = (tag, className, text) => {
    const element = document.createElement(tag);
    element.className = className;
    if (text) element.textContent = text;
    return element;
  };
  const main = document.querySelector("main");
  document.documentElement.classList.add("script");

  // --- where a number comes from: one panel for all. A paragraph or table is one stop of the Tab key; arrows go on.

  const MARKS = ".num, .files";
  const GROUPS = "table, figcaption, p, li, dd";
  const notebooks = new Set(main.dataset.notebooks.split(" "));
  const panel = make("span", "panel");
  panel.id = "panel";
  panel.setAttribute("role", "dialog");
  panel.setAttribute("aria-label", "Where this comes from");
  let shown = null, pinned = false, timer = 0;

  const groups = new Map();
  for (const mark of main.querySelectorAll(MARKS)) {
    const group = mark.closest(GROUPS) || mark.parentElement;
    mark.dataset.source = mark.title;
    mark.removeAttribute("title");
    mark.setAttribute("role", "button");
    mark.setAttribute("aria-haspopup", "dialog");
    mark.tabIndex = groups.has(group) ? -1 : 0;
    groups.set(group, [...(groups.get(group) || []), mark]);
  }

  const link = (address, text) => {
    const element = make("a", "", text);
    element.href = address;
    return element;
  };

  function fill(mark) {
    const [files, value] = mark.matches(".num") ? mark.dataset.source.split(/ : (.*)/s) : [mark.dataset.source, ""];
    panel.replaceChildren();
    if (value) panel.append(make("span", "value", value));
    for (const file of files.split("; ").filter(Boolean)) {
      const line = make("span", "file");
      const known = /^(results|params|report)\/\S+$/.test(file);
      line.append(known ? link("files/" + encodeURI(file), file) : file);
      const [, study, step, run] = file.match(/^results\/([^/]+)\/([^/]+)\/([^/]+)\//) || [];
      if (notebooks.has(`${step}-${run}`)) {
        line.append(" · ", link(`notebooks/${step}-${run}.html`, "notebook"), " · ");
        line.append(make("code", "", `iqa run ${study}/${step}/${run}`));
      }
      panel.append(line);
    }
  }

  function place() {
    const box = shown.getBoundingClientRect(), width = document.documentElement.clientWidth;
    const below = box.bottom + panel.offsetHeight + 8 < innerHeight || box.top < panel.offsetHeight + 8;
    panel.style.left = Math.max(8, Math.min(box.left, width - panel.offsetWidth - 8)) + "px";
    panel.style.top = (below ? box.bottom + 4 : box.top - panel.offsetHeight - 4) + "px";
  }

  function open(mark, pin) {
    clearTimeout(timer);
    if (shown !== mark) show(mark);
    pinned = pin;
  }

  function show(mark) {
    close();
    shown = mark;
    fill(mark);
    mark.after(panel);
    mark.setAttribute("aria-expanded", "true");
    mark.setAttribute("aria-describedby", panel.id);
    place();
  }

  function close() {
    clearTimeout(timer);
    if (!shown) return;
    shown.removeAttribute("aria-expanded");
    shown.removeAttribute("aria-describedby");
    shown = null;
    pinned = false;
    panel.remove();
  }

  const markOf = event => event.target.closest?.(MARKS);
  const inside = element => element && (panel.contains(element) || shown?.contains(element));

  main.addEventListener("pointerover", event => {
    const mark = markOf(event);
    if (event.pointerType === "touch" || pinned) return;
    clearTimeout(timer);
    if (mark && mark !== shown) timer = setTimeout(open, 120, mark, false);
    else if (shown && !inside(event.target) && document.activeElement !== shown) timer = setTimeout(close, 300);
  });
  main.addEventListener("focusin", event => {
    const mark = markOf(event);
    if (mark?.matches(":focus-visible")) open(mark, true);
  });
  document.addEventListener("focusout", event => {
    if (inside(event.target) && event.relatedTarget && !inside(event.relatedTarget)) close();
  });
  document.addEventListener("click", event => {
    const mark = markOf(event);
    if (mark) shown === mark && pinned ? close() : open(mark, true);
    else if (!inside(event.target)) close();
  });
  document.addEventListener("scroll", () => shown && place(), { capture: true, passive: true });
  addEventListener("resize", () => shown && place());

  function go(mark, key) {
    const group = groups.get(mark.closest(GROUPS) || mark.parentElement), at = group.indexOf(mark);
    const cell = mark.closest("td");
    const column = each => each.closest("td")?.cellIndex === cell?.cellIndex;
    const vertical = step => {
      for (let next = at + step; group[next]; next += step)
        if (column(group[next]) && group[next].closest("tr") !== cell.parentElement) return group[next];
    };
    const moves = {
      ArrowRight: () => group[at + 1], ArrowLeft: () => group[at - 1], Home: () => group[0], End: () => group.at(-1),
      ArrowDown: () => cell ? vertical(1) : group[at + 1], ArrowUp: () => cell ? vertical(-1) : group[at - 1],
    };
    const next = moves[key]?.();
    if (!next) return key in moves;
    mark.tabIndex = -1;
    next.tabIndex = 0;
    next.focus();
    open(next, true);
    return true;
  }

  document.addEventListener("keydown", event => {
    if (event.key === "Escape" && shown) {
      if (panel.contains(document.activeElement)) shown.focus();
      close();
      return;
    }
    const mark = markOf(event);
    if (!mark || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "Enter" || event.key === " ") {
      open(mark, true);
      panel.querySelector("a")?.focus();
      event.preventDefault();
    } else if (go(mark, event.key)) event.preventDefault();
  });

  // --- the contents list: closed at first on a narrow page, and the section that is read is marked

  const contents = document.querySelector("#TOC details"), here = contents.querySelector(".here");
  const links = [...contents.querySelectorAll("a")];
  const sections = links.map(each => document.getElementById(decodeURIComponent(each.hash.slice(1))));
  const narrow = matchMedia("(max-width: 70rem)");
  const fold = () => { contents.open = !narrow.matches; };
  let current = null;

  function follow() {
    let at = 0;
    sections.forEach((section, place) => { if (section?.getBoundingClientRect().top <= 110) at = place; });
    if (links[at] === current) return;
    current?.removeAttribute("aria-current");
    current = links[at];
    current.setAttribute("aria-current", "true");
    here.textContent = " · " + current.textContent;
    const list = contents.parentElement, box = current.getBoundingClientRect();
    if (!narrow.matches && (box.top < 40 || box.bottom > innerHeight - 40)) list.scrollTop += box.top - innerHeight / 3;
  }

  narrow.addEventListener("change", fold);
  fold();
  contents.addEventListener("click", event => {
    if (narrow.matches && event.target.closest("a")) contents.open = false;
  });
  let waiting = false;
  document.addEventListener("scroll", () => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => { waiting = false; follow(); });
  }, { passive: true });
  follow();

  // --- long tables: sorted by a click on a title, filtered by words and, where there are verdicts, by verdict

  const LONG = 10, LONGER = 20;  // rows from which a table can be sorted, and filtered
  const text = (row, column) => row.cells[column].textContent.trim();

  function value(row, column) {
    const exact = row.cells[column].querySelector(".num")?.dataset.source.match(/ = (\S+)$/);
    const plain = (exact ? exact[1] : text(row, column)).replace("\u2212", "-").replace(/,(?=\d{3})/g, "");
    const number = plain.match(/^[<>±]?([-+]?\d*\.?\d+(?:e[-+]?\d+)?)[%M]?(?: \[.*)?$/i);
    return number ? Number(number[1]) : null;
  }

  function sort(table, rows, column, direction) {
    const order = rows.map((row, place) => ({ row, place, number: value(row, column), words: text(row, column) }));
    const missing = each => each.number === null && /^[-\u2013]?$/.test(each.words);
    if (direction) order.sort((a, b) => {
      if (missing(a) || missing(b)) return missing(a) - missing(b) || a.place - b.place;
      const both = a.number !== null && b.number !== null;
      const less = both ? a.number - b.number : a.words.localeCompare(b.words, "en", { numeric: true });
      return direction * less || a.place - b.place;
    });
    table.tBodies[0].append(...order.map(each => each.row));
  }

  function sortable(table, rows) {
    const titles = [...table.tHead.rows[0].cells];
    titles.forEach((title, column) => {
      const button = make("button", "sort");
      button.type = "button";
      button.append(...title.childNodes);
      title.append(button);
      button.addEventListener("click", () => {
        const next = { ascending: "descending", descending: "" }[title.getAttribute("aria-sort")] ?? "ascending";
        close();
        titles.forEach(each => each.removeAttribute("aria-sort"));
        if (next) title.setAttribute("aria-sort", next);
        sort(table, rows, column, { ascending: 1, descending: -1 }[next] || 0);
      });
    });
  }

  function filterable(table, rows) {
    const tools = make("div", "tools"), words = make("input", ""), count = make("span", "count");
    const column = [...table.tHead.rows[0].cells].findIndex(title => title.textContent.trim() === "Verdict");
    const verdicts = make("select", "");
    words.type = "search";
    words.placeholder = "Filter rows";
    words.setAttribute("aria-label", "Filter rows");
    verdicts.setAttribute("aria-label", "Verdict");
    count.setAttribute("role", "status");
    verdicts.append(new Option("all verdicts", ""));
    if (column >= 0) for (const verdict of new Set(rows.map(row => text(row, column)))) verdicts.append(new Option(verdict));
    tools.append(words, ...(column >= 0 ? [verdicts] : []), count);
    const apply = () => {
      close();
      const wanted = words.value.toLowerCase().split(/\s+/);
      for (const row of rows) {
        const fits = wanted.every(word => row.textContent.toLowerCase().includes(word));
        row.hidden = !fits || (verdicts.value !== "" && text(row, column) !== verdicts.value);
      }
      count.textContent = `${rows.filter(row => !row.hidden).length} of ${rows.length} rows`;
    };
    tools.addEventListener("input", apply);
    apply();
    table.before(tools);
  }

  for (const table of main.querySelectorAll("table")) {
    const rows = [...(table.tBodies[0]?.rows || [])], claims = table.closest(".claims");
    if (!table.tHead || !(claims || rows.length >= LONG)) continue;
    sortable(table, rows);
    if (claims || rows.length >= LONGER) filterable(table, rows);
  }
})();
