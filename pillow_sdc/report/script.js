"use strict";

const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

function startTheme() {
  const stored = { get: () => null, set: () => {} };
  try { // a browser may keep no storage for files
    const storage = window.localStorage;
    stored.get = () => storage.getItem("sdc-theme");
    stored.set = (theme) => storage.setItem("sdc-theme", theme);
  } catch { /* then the choice lasts as long as the page */ }
  const show = (theme) => { document.documentElement.dataset.theme = theme; };
  for (const input of document.querySelectorAll(".theme input")) {
    if (input.value === stored.get()) { input.checked = true; show(input.value); }
    input.addEventListener("change", () => { show(input.value); stored.set(input.value); });
  }
}

function startTable(table) {
  const body = table.tBodies[0];
  const heads = [...table.tHead.rows[0].cells];
  const valueOf = (row, column) => {
    const cell = row.cells[column];
    return column === 0 ? cell.textContent.trim() : parseFloat(cell.dataset.value ?? "NaN");
  };
  const sort = (column, descending) => {
    const rows = [...body.rows];
    rows.sort((a, b) => {
      const [first, second] = [valueOf(a, column), valueOf(b, column)];
      if (column === 0) return first.localeCompare(second) * (descending ? -1 : 1);
      if (Number.isNaN(first) || Number.isNaN(second)) return Number.isNaN(first) - Number.isNaN(second);
      return descending ? second - first : first - second;
    });
    body.append(...rows);
  };
  heads.forEach((head, column) => head.querySelector("button")?.addEventListener("click", (event) => {
    const before = head.getAttribute("aria-sort");
    const other = { ascending: "descending", descending: "ascending" };
    const order = before ? other[before] : event.currentTarget.dataset.first;
    for (const each of heads) each.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", order);
    sort(column, order === "descending");
  }));
}

function startViewer(viewer) {
  const zooms = [1, 2, 3, 4, 6, 8];
  const find = (selector) => viewer.querySelector(selector);
  const columns = [...viewer.querySelectorAll(".column")];
  const stage = find(".stage"), divider = find(".divider"), frame = find(".frame");
  const selects = { left: find("select.left"), right: find("select.right") };
  const size = ["--width", "--height"].map((name) => Number(viewer.style.getPropertyValue(name)));
  const focus = ["--x", "--y"].map((name) => Number(viewer.style.getPropertyValue(name)));
  let zoom = 2;

  // Shares of the picture that a detail shows.
  const extent = () => size.map((length) => Math.min(1, find(".detail").clientWidth / (length * zoom)));

  function look(x, y) {
    const shown = extent();
    [x, y].forEach((value, i) => { focus[i] = clamp(value, shown[i] / 2, 1 - shown[i] / 2); });
    const values = { "--x": focus[0], "--y": focus[1], "--zoom": zoom, "--frame-width": shown[0], "--frame-height": shown[1] };
    for (const [name, value] of Object.entries(values)) viewer.style.setProperty(name, value);
    find("output").textContent = `${zoom}×`;
    find(".out").disabled = zoom === zooms[0];
    find(".in").disabled = zoom === zooms.at(-1);
  }

  function zoomBy(steps) {
    zoom = zooms[clamp(zooms.indexOf(zoom) + steps, 0, zooms.length - 1)];
    look(...focus);
  }

  function show() {
    for (const side of ["left", "right"]) {
      const column = columns.find((each) => each.dataset.key === selects[side].value);
      const from = column.querySelector("img"), to = stage.querySelector(`img.${side}`);
      if (to.src !== from.src) to.src = from.src;
      to.alt = from.alt;
    }
    for (const column of columns) {
      const chosen = column.dataset.key === selects.right.value;
      column.setAttribute("aria-checked", String(chosen));
      column.tabIndex = chosen ? 0 : -1;
    }
    divide(Number(divider.value));
  }

  function divide(percent) {
    divider.value = percent;
    stage.style.setProperty("--divider", percent);
    const [left, right] = ["left", "right"].map((side) => selects[side].selectedOptions[0].textContent);
    const share = Math.round(percent);
    divider.setAttribute("aria-valuetext", `${left} ${share} %, ${right} ${100 - share} %`);
  }

  function choose(column) {
    selects.right.value = column.dataset.key;
    show();
  }

  // Calls move(dx, dy, event) while the pointer is down on an element, in CSS pixels since the last call.
  function onDrag(element, begin, move) {
    element.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      let [x, y] = [event.clientX, event.clientY];
      if (begin(event) === false) return;
      event.stopPropagation();
      element.setPointerCapture(event.pointerId);
      const moved = (next) => {
        move(next.clientX - x, next.clientY - y, next);
        [x, y] = [next.clientX, next.clientY];
      };
      const ended = () => {
        element.removeEventListener("pointermove", moved);
        element.removeEventListener("pointerup", ended);
        element.removeEventListener("pointercancel", ended);
      };
      element.addEventListener("pointermove", moved);
      element.addEventListener("pointerup", ended);
      element.addEventListener("pointercancel", ended);
    });
  }

  const percentAt = (event) => {
    const box = stage.getBoundingClientRect();
    return clamp((event.clientX - box.left) / box.width * 100, 0, 100);
  };
  const divideAt = (event) => divide(Math.round(percentAt(event)));

  onDrag(stage, (event) => { event.preventDefault(); divider.focus({ preventScroll: true }); divideAt(event); },
    (dx, dy, event) => divideAt(event));
  onDrag(frame,
    (event) => Math.abs(percentAt(event) - divider.value) / 100 * stage.clientWidth > 12, // near it, the line is meant
    (dx, dy) => look(focus[0] + dx / stage.clientWidth, focus[1] + dy / stage.clientHeight));
  stage.addEventListener("dblclick", (event) => {
    const box = stage.getBoundingClientRect();
    look((event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height);
  });
  divider.addEventListener("input", () => divide(Number(divider.value)));
  for (const select of Object.values(selects)) select.addEventListener("change", show);
  find(".out").addEventListener("click", () => zoomBy(-1));
  find(".in").addEventListener("click", () => zoomBy(1));

  for (const column of columns) {
    let travelled = 0;
    onDrag(column.querySelector(".detail"), () => { travelled = 0; }, (dx, dy) => {
      travelled += Math.abs(dx) + Math.abs(dy);
      look(focus[0] - dx / (size[0] * zoom), focus[1] - dy / (size[1] * zoom));
    });
    column.addEventListener("click", (event) => { if (event.detail === 0 || travelled < 5) choose(column); });
  }

  find(".columns").addEventListener("keydown", (event) => {
    const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    const current = columns.indexOf(document.activeElement);
    let next = { Home: 0, End: columns.length - 1 }[event.key];
    if (steps && event.shiftKey) {
      look(...focus.map((value, i) => value + steps[i] * extent()[i] / 8));
    } else if (steps) {
      next = (current + steps[0] + steps[1] + columns.length) % columns.length;
    }
    if (next !== undefined) {
      choose(columns[next]);
      columns[next].focus();
    }
    if (steps || next !== undefined) event.preventDefault();
  });
  viewer.addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey || event.target instanceof HTMLSelectElement) return;
    const steps = { "+": 1, "=": 1, "-": -1, "−": -1 }[event.key];
    if (!steps) return;
    zoomBy(steps);
    event.preventDefault();
  });

  new ResizeObserver(() => look(...focus)).observe(find(".detail"));
  show();
  look(...focus);
}

for (const element of document.querySelectorAll(".scripted")) element.hidden = false;
startTheme();
for (const table of document.querySelectorAll("table")) startTable(table);
for (const viewer of document.querySelectorAll(".viewer")) startViewer(viewer);
