"use strict";
// The script of every page: sorting of tables, figures in the colours of the scheme, and the linked views of members.
// Data comes from <script type="application/json"> elements of the page; nothing is loaded or sent.

const read = id => {
  const found = document.getElementById(id);
  return found ? JSON.parse(found.textContent) : null;
};
const data = read("explorer-data"),
  live = Number(document.documentElement.dataset.live || 0);

// ---- elements, numbers, colours ------------------------------------------------------------------------------------

const SVG = "http://www.w3.org/2000/svg";

/** An element with attributes and children; functions become listeners, e.g. h("button", {onclick: f}, "Text"). */
function h(tag, attributes = {}, ...children) {
  const svg = tag.startsWith("svg:"),
    element = svg ? document.createElementNS(SVG, tag.slice(4)) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(name.slice(2), value);
    else if (value !== null && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter(child => child !== null));
  return element;
}

/** A measured value as all tables show it: four decimals, or three digits and a prefix from 1000 on. */
function show(value) {
  if (value === null || value === undefined) return "–";
  const size = Math.abs(value);
  for (const [unit, prefix] of [
    [1e15, "P"],
    [1e12, "T"],
    [1e9, "G"],
    [1e6, "M"],
    [1e3, "k"],
  ])
    if (size >= 0.9995 * unit) return `${Number((value / unit).toPrecision(3))} ${prefix}`;
  return size > 0 && size < 5e-5 ? value.toExponential(2) : value.toFixed(4);
}

const colour = name => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

/** Trace of a ring of `size` pixels around the chosen member, without a point until a member is chosen. */
const ring = size => ({
  x: [],
  y: [],
  customdata: [],
  mode: "markers",
  meta: "selected",
  hoverinfo: "skip",
  marker: { size, color: "rgba(0,0,0,0)", line: { color: colour("ink"), width: 2.5 } },
});

/** Colours of a figure in the scheme of the reader, as a template of plotly. */
function template() {
  const [ink, soft, grid, line, card] = ["ink", "soft", "grid", "line", "card"].map(colour);
  const axis = { gridcolor: grid, zerolinecolor: grid, linecolor: line, tickfont: { color: soft }, automargin: true };
  const flat = { ...axis, backgroundcolor: "rgba(0,0,0,0)" };
  return {
    layout: {
      font: { family: "system-ui, sans-serif", size: 13, color: ink },
      colorway: [0, 1, 2, 3, 4, 5, 6, 7].map(i => colour(`c${i}`)),
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      xaxis: axis,
      yaxis: axis,
      scene: { xaxis: flat, yaxis: flat, zaxis: flat },
      hoverlabel: { bgcolor: card, bordercolor: line, font: { color: ink } },
      hovermode: "closest",
      modebar: { bgcolor: "rgba(0,0,0,0)", color: soft, activecolor: ink },
    },
  };
}

/** Buttons of a figure, named one by one: plotly's own choice has a button that uploads the figure. */
const buttons = is3d => ({
  displaylogo: false,
  responsive: true,
  displayModeBar: narrow() ? false : "hover",
  modeBarButtons: [
    ["toImage"],
    is3d ? ["orbitRotation", "zoom3d", "pan3d", "resetCameraDefault3d"] : ["zoom2d", "pan2d", "resetScale2d"],
  ],
});
const narrow = () => document.documentElement.clientWidth < 640;
const scaled = axis =>
  axis.log ? { type: "log", tickformat: "~s", ...(axis.decades < 3 ? { dtick: "D2" } : {}) } : { type: "linear" };
const hasWebGL = (() => {
  try {
    return Boolean(document.createElement("canvas").getContext("webgl"));
  } catch {
    return false;
  }
})();

// ---- views: drawn when they come into sight, again when the scheme changes, updated when the choice changes ----------

const views = [];

/** Register a view; `draw` fills the element, `show` shows the choice; its argument says whether members came or went. */
function view(element, draw, show = () => {}) {
  const own = { element, draw, show, drawn: false, visible: false, stale: false, version: -1 };
  element.classList.add("waiting");
  views.push(own);
  seen.observe(element);
}

const seen = new IntersectionObserver(
  entries => {
    for (const { target, isIntersecting } of entries) {
      const own = views.find(found => found.element === target);
      own.visible = isIntersecting;
      if (isIntersecting) reveal(own);
      if (isIntersecting && own.stale) refresh(own);
    }
  },
  { rootMargin: "300px" },
);

function reveal(own) {
  if (own.drawn) return;
  own.drawn = true;
  own.element.classList.remove("waiting");
  own.draw();
  refresh(own);
}

function refresh(own) {
  own.stale = false;
  own.show(own.version !== state.version);
  own.version = state.version;
}

function redraw() {
  for (const own of views)
    if (own.drawn) {
      own.draw();
      own.version = -1;
      refresh(own);
    }
}

/** Show the choice: at once in the views that can be seen, then in the others, one after the other. */
let frame = 0,
  later = 0;
function update() {
  remember();
  for (const own of views) own.stale = own.drawn;
  frame ||= requestAnimationFrame(() => {
    frame = 0;
    for (const own of views) if (own.stale && own.visible) refresh(own);
    clearTimeout(later);
    later = setTimeout(next);
  });
}
function next() {
  const own = views.find(found => found.stale);
  if (!own) return;
  refresh(own);
  later = setTimeout(next);
}

/** Draw a figure of plotly; `height` in px. A click on a point with the id of a member chooses the member. */
function plot(element, traces, layout) {
  const margin = { l: 56, r: 16, t: 24, b: 48, ...layout.margin };
  element.style.minHeight = `${layout.height}px`;
  Plotly.react(element, traces, { ...layout, margin, template: template() }, buttons("scene" in layout));
  if (!element.dataset.bound) {
    element.dataset.bound = "1";
    element.on("plotly_click", event => {
      const id = event.points.map(point => point.customdata).find(found => members.has(found));
      if (id) select(id);
    });
  }
}

// ---- sortable tables and figures that the page brings along --------------------------------------------------------

for (const head of document.querySelectorAll("table.sortable th button"))
  head.addEventListener("click", () => {
    const cell = head.parentElement,
      body = cell.closest("table").tBodies[0],
      down = cell.getAttribute("aria-sort") !== "descending";
    for (const other of cell.parentElement.cells) other.removeAttribute("aria-sort");
    cell.setAttribute("aria-sort", down ? "descending" : "ascending");
    const value = row => {
      const own = row.cells[cell.cellIndex],
        text = own.dataset.value ?? own.textContent;
      return text === "" ? null : isNaN(text) ? text : Number(text);
    };
    [...body.rows]
      .sort((a, b) => {
        const x = value(a),
          y = value(b);
        return x === null || y === null ? (x === null) - (y === null) : (x < y ? -1 : x > y ? 1 : 0) * (down ? -1 : 1);
      })
      .forEach(row => body.append(row));
  });

/** Colours of figures that the page brings along, which are those of the light scheme, by their names in the style sheet. */
const NAMES = {
  "#0b7a6f": "c0",
  "#2563eb": "c1",
  "#b5179e": "c2",
  "#9a6200": "c3",
  "#6d28d9": "c4",
  "#3f7d20": "c5",
  "#0e7490": "c6",
  "#9f1239": "c7",
  "#ccd6e0": "cloud",
  "#b93c0a": "base",
};
for (const element of document.querySelectorAll(".plot[data-figure]")) {
  const text = document.getElementById(element.dataset.figure).textContent;
  const figure = () =>
    JSON.parse(text.replace(/#[0-9a-f]{6}/g, found => (NAMES[found] ? colour(NAMES[found]) : found)));
  element.style.minHeight = `${figure().layout.height}px`;
  view(element, () => {
    const own = figure();
    plot(element, own.data, narrow() ? stacked(own.layout) : own.layout);
  });
}

/** The layout of a figure of panels with one panel below the other, for a narrow screen. */
function stacked(layout) {
  const panels = Object.keys(layout)
    .filter(name => /^xaxis\d*$/.test(name))
    .map(name => name.slice(5));
  if (panels.length < 2) return layout;
  const gap = 0.3 / panels.length,
    size = (1 - gap * (panels.length - 1)) / panels.length;
  panels.forEach((panel, i) => {
    layout[`xaxis${panel}`].domain = [0, 1];
    layout[`yaxis${panel}`].domain = [1 - i * (size + gap) - size, 1 - i * (size + gap)];
  });
  return { ...layout, height: 300 * panels.length };
}

// ---- the choice: member, limits and weights ------------------------------------------------------------------------

const members = new Map((data?.members ?? []).map(member => [member.id, member]));
const axes = data?.objectives ?? [];
const eligible = [...members.values()].filter(member => member.rank !== null);
const state = {
  id: null,
  version: 0,
  ranges: axes.map(() => [0, 1]),
  weights: axes.map(() => 1),
  order: [],
  kept: new Set(),
};

for (const axis of axes) {
  const scale = value => (axis.log ? Math.log10(Math.max(value, 1e-300)) : value);
  const found = [...members.values(), ...data.baselines]
    .map(row => row.values[axis.metric])
    .filter(value => value !== undefined);
  const low = Math.min(...found.map(scale)),
    high = Math.max(...found.map(scale)),
    span = high - low || 1;
  /** Position of a value between the worst (0) and the best (1) value of members and baselines, and its inverse. */
  axis.position = value => (axis.max ? (scale(value) - low) / span : (high - scale(value)) / span);
  axis.value = position => {
    const at = axis.max ? low + position * span : high - position * span;
    return axis.log ? 10 ** at : at;
  };
  axis.decades = span;
  axis.title = `${axis.name} ${axis.max ? "↑" : "↓"}`;
  axis.text = value => show(value) + (axis.unit ? ` ${axis.unit}` : "");
}

/** Members that keep all limits, best first: the weighted mean of the objectives, scaled to the members that are left. */
function rank() {
  const inside = eligible.filter(member =>
    axes.every((axis, i) => {
      const at = axis.position(member.values[axis.metric]);
      return at >= state.ranges[i][0] - 1e-9 && at <= state.ranges[i][1] + 1e-9;
    }),
  );
  const losses = axes.map(axis => {
    const own = inside.map(member => 1 - axis.position(member.values[axis.metric]));
    const low = Math.min(...own),
      span = Math.max(...own) - low || 1;
    return own.map(loss => (loss - low) / span);
  });
  const total = state.weights.reduce((sum, weight) => sum + weight, 0) || 1;
  const scores = inside.map((member, row) => [
    losses.reduce((sum, own, i) => sum + state.weights[i] * own[row], 0) / total,
    member,
  ]);
  scores.sort(([a, one], [b, other]) => a - b || (one.id < other.id ? -1 : 1));
  state.order = scores.map(([, member]) => member);
  state.kept = new Set(state.order.map(member => member.id));
  state.version++;
}

function select(id) {
  if (!members.has(id)) return;
  state.id = id;
  update();
}

const isIn = id => state.kept.has(id);
const runs = data?.runs ?? [];
const roles = runs.length > 1 ? [] : eligible.filter(member => member.roles.length);
const paint = member =>
  runs.length > 1
    ? `c${runs[member.run].colour % 8}`
    : roles.includes(member)
      ? `c${roles.indexOf(member) % 8}`
      : "member";
const swatch = member =>
  h("span", { class: "swatch", style: `background:var(--${paint(member)})`, "aria-hidden": "true" });

/** What a page that reloads itself, or is opened again in the same tab, still knows. */
const memory = `evorec ${document.title}`;
function remember() {
  try {
    sessionStorage.setItem(
      memory,
      JSON.stringify({ id: state.id, ranges: state.ranges, weights: state.weights, y: scrollY }),
    );
  } catch {
    /* not allowed */
  }
}
function recall() {
  try {
    const kept = JSON.parse(sessionStorage.getItem(memory) ?? "null");
    if (!kept || kept.ranges.length !== axes.length) return 0;
    Object.assign(state, { id: members.has(kept.id) ? kept.id : null, ranges: kept.ranges, weights: kept.weights });
    return kept.y;
  } catch {
    return 0;
  }
}

// ---- views of the members ------------------------------------------------------------------------------------------

function chips(element) {
  const own =
    runs.length > 1
      ? runs.map((run, i) =>
          h(
            "span",
            { class: "chip" },
            h("span", { class: "swatch", style: `background:var(--c${run.colour % 8})` }),
            `${i + 1} ${run.name}`,
          ),
        )
      : roles.map(member =>
          h(
            "button",
            { class: "chip", type: "button", "data-key": member.id, onclick: () => select(member.id) },
            swatch(member),
            member.name,
            h("span", { class: "key" }, member.key.slice(0, 8)),
          ),
        );
  element.append(...own);
  view(
    element,
    () => {},
    () => {
      for (const chip of element.querySelectorAll("button"))
        chip.setAttribute("aria-pressed", chip.dataset.key === state.id);
    },
  );
}

function controls(element) {
  const slider = (label, value, max, step, oninput) => {
    const output = h("output"),
      input = h("input", { type: "range", min: 0, max, step, value, "aria-label": label });
    input.addEventListener("input", () => {
      oninput(Number(input.value));
      rank();
      update();
    });
    return { input, output, node: h("label", { class: "slider" }, h("span", {}, label), output, input) };
  };
  const limits = axes.map((axis, i) =>
    slider(`${axis.name} ${axis.max ? "≥" : "≤"}`, 0, 1, 0.002, at => {
      state.ranges[i] = [at, Math.max(at, state.ranges[i][1])];
    }),
  );
  const weights = axes.map((axis, i) =>
    slider(`weight of ${axis.name}`, 1, 4, 0.25, weight => {
      state.weights[i] = weight;
    }),
  );
  const text = h("p", { role: "status" }),
    pick = h("code");
  const reset = h(
    "button",
    {
      class: "button",
      type: "button",
      onclick: () => {
        state.ranges = axes.map(() => [0, 1]);
        state.weights = axes.map(() => 1);
        rank();
        update();
      },
    },
    "Clear limits and weights",
  );
  const show = h(
    "button",
    { class: "button", type: "button", onclick: () => select(state.order[0]?.id) },
    "Show the first",
  );
  element.append(
    h(
      "div",
      { class: "pairs" },
      h(
        "fieldset",
        {},
        h("legend", {}, "Limits"),
        limits.map(own => own.node),
      ),
      h(
        "fieldset",
        {},
        h("legend", {}, "Weights"),
        weights.map(own => own.node),
      ),
    ),
    h("div", { class: "outcome" }, text, show, reset),
    h("div", { class: "outcome" }, pick),
  );
  view(
    element,
    () => {},
    () => {
      axes.forEach((axis, i) => {
        const [low, high] = state.ranges[i];
        limits[i].input.value = low;
        limits[i].output.textContent =
          low > 0 || high < 1
            ? axis.text(axis.value(low)) + (high < 1 ? ` to ${axis.text(axis.value(high))}` : "")
            : "no limit";
        weights[i].input.value = state.weights[i];
        weights[i].output.textContent = state.weights[i];
      });
      const [first] = state.order;
      text.textContent =
        `${state.order.length} of ${eligible.length} members keep the limits` +
        (first ? `; first is ${first.name} (${first.key.slice(0, 8)}).` : ".");
      const isKnee =
        state.weights.every(weight => weight === state.weights[0]) && state.ranges.every(([, high]) => high === 1);
      const bounds = axes
        .map((axis, i) => [axis, state.ranges[i][0]])
        .filter(([, low]) => low > 0)
        .map(([axis, low]) => `${axis.metric} ${axis.max ? ">=" : "<="} ${Number(axis.value(low).toPrecision(6))}`);
      pick.textContent =
        isKnee && bounds.length && runs.length === 1 && first
          ? `evorec front ${runs[0].path} --pick "knee where ${bounds.join(", ")}"`
          : "";
    },
  );
}

/** Lines across the objectives, drawn without plotly so that a line can be chosen, and an axis brushed. */
function parallel(element) {
  const height = 330,
    top = 44,
    bottom = 34,
    y = at => top + (1 - at) * (height - top - bottom);
  let lines, brushes, values;
  const draw = () => {
    const width = Math.max(element.clientWidth, 280),
      side = narrow() ? 34 : 64;
    const x = i => (axes.length > 1 ? side + (i * (width - 2 * side)) / (axes.length - 1) : width / 2);
    const path = row =>
      axes
        .map((axis, i) => [x(i), row.values[axis.metric]])
        .filter(([, value]) => value !== undefined)
        .map(
          ([at, value], i) =>
            `${i ? "L" : "M"}${at.toFixed(1)},${y(axes.find((axis, j) => x(j) === at).position(value)).toFixed(1)}`,
        )
        .join("");
    const svg = h("svg:svg", {
      class: "parallel",
      viewBox: `0 0 ${width} ${height}`,
      height,
      role: "group",
      "aria-label":
        "Parallel coordinates of the members; the table below has the same values, and the sliders the same limits",
    });
    const under = h("svg:g"),
      over = h("svg:g"),
      front = h("svg:g");
    lines = new Map();
    for (const member of [...members.values()].sort((a, b) => a.roles.length - b.roles.length)) {
      const line = h("svg:path", {
        class: `line${roles.includes(member) ? " role" : ""}`,
        d: path(member),
        "data-key": member.id,
        style: `stroke:var(--${paint(member)})`,
      });
      lines.set(member.id, line);
      under.append(line);
      over.append(
        h(
          "svg:path",
          { class: "hit", d: path(member), "data-key": member.id, onclick: () => select(member.id) },
          h(
            "svg:title",
            {},
            `${member.name} ${member.key.slice(0, 8)}: ${axes.map(axis => `${axis.name} ${axis.text(member.values[axis.metric])}`).join(", ")}`,
          ),
        ),
      );
    }
    brushes = axes.map((axis, i) => {
      const brush = h("svg:rect", { class: "brush", x: x(i) - 7, width: 14 });
      const at = event => {
        const box = svg.getBoundingClientRect();
        return Math.min(
          Math.max(1 - (((event.clientY - box.top) * height) / box.height - top) / (height - top - bottom), 0),
          1,
        );
      };
      let from = null;
      const move = event => {
        if (from === null) return;
        const to = at(event);
        state.ranges[i] = Math.abs(to - from) < 0.015 ? [0, 1] : [Math.min(from, to), Math.max(from, to)];
        rank();
        update();
      };
      const grip = h(
        "svg:rect",
        {
          class: "grip",
          x: x(i) - 14,
          width: 28,
          y: top - 8,
          height: height - top - bottom + 16,
          "data-axis": axis.metric,
          onpointerdown: event => {
            from = at(event);
            grip.setPointerCapture(event.pointerId);
            event.preventDefault();
          },
          onpointermove: move,
          onpointerup: event => {
            move(event);
            from = null;
          },
        },
        h("svg:title", {}, `Drag along ${axis.name} to keep a range; click to clear it`),
      );
      const anchor =
        axes.length > 1 && narrow() ? (i === 0 ? "start" : i === axes.length - 1 ? "end" : "middle") : "middle";
      const shift = anchor === "start" ? x(i) - side + 2 : anchor === "end" ? x(i) + side - 2 : x(i);
      front.append(
        h("svg:line", { class: "axis", x1: x(i), x2: x(i), y1: y(1), y2: y(0) }),
        h("svg:text", { class: "title", x: shift, y: 14, "text-anchor": anchor }, axis.title),
        h("svg:text", { x: shift, y: 32, "text-anchor": anchor }, show(axis.value(1))),
        h("svg:text", { x: shift, y: height - 14, "text-anchor": anchor }, show(axis.value(0))),
        brush,
        ...data.baselines
          .filter(own => own.values[axis.metric] !== undefined)
          .map(own =>
            h(
              "svg:path",
              { class: "mark", d: `M${x(i)},${y(axis.position(own.values[axis.metric])) - 6}l6,6l-6,6l-6,-6z` },
              h("svg:title", {}, `${own.name}: ${axis.name} ${axis.text(own.values[axis.metric])}`),
            ),
          ),
        grip,
      );
      return brush;
    });
    values = axes.map((axis, i) =>
      h("svg:text", {
        class: "value",
        x: x(i) + (i === axes.length - 1 ? -10 : 10),
        "text-anchor": i === axes.length - 1 ? "end" : "start",
      }),
    );
    svg.append(under, over, front, ...values);
    element.replaceChildren(svg);
  };
  view(element, draw, () => {
    const chosen = members.get(state.id);
    for (const [id, line] of lines) {
      line.classList.toggle("out", !isIn(id) && id !== state.id);
      line.classList.toggle("selected", id === state.id);
    }
    if (chosen) lines.get(chosen.id).parentElement.append(lines.get(chosen.id));
    axes.forEach((axis, i) => {
      const [low, high] = state.ranges[i],
        has = low > 0 || high < 1;
      brushes[i].setAttribute("y", y(high));
      brushes[i].setAttribute("height", has ? Math.max(y(low) - y(high), 2) : 0);
      const value = chosen?.values[axis.metric];
      values[i].textContent = value === undefined ? "" : show(value);
      if (value !== undefined) values[i].setAttribute("y", y(axis.position(value)) - 7);
    });
  });
}

/** Traces of members in two or three objectives, and of the chosen member; `on` names axes and panel. */
const hover = row =>
  `<b>${row.name}</b> ${row.key ? row.key.slice(0, 8) : ""}<br>${axes
    .filter(axis => row.values[axis.metric] !== undefined)
    .map(axis => `${axis.name} ${axis.text(row.values[axis.metric])}`)
    .join("<br>")}<extra></extra>`;
const SYMBOLS = ["diamond", "square", "triangle-up", "cross", "star", "hexagon", "triangle-down", "x"];
const opacities = list => list.map(member => (isIn(member.id) ? 1 : 0.18));

function matrix(element) {
  const list = [...members.values()];
  let panels = [];
  const draw = () => {
    const n = axes.length,
      traces = [],
      layout = { showlegend: true, annotations: [] },
      thin = narrow();
    panels = [];
    for (let row = 1; row < Math.max(n, 2); row++)
      for (let column = 0; column < Math.min(row, n); column++) panels.push([column, Math.min(row, n - 1)]);
    const across = thin ? 1 : Math.max(n - 1, 1),
      down = thin ? panels.length : Math.max(n - 1, 1);
    const gap = thin ? [0, 0.3 / down] : [0.03, 0.03];
    const cell = [(1 - gap[0] * (across - 1)) / across, (1 - gap[1] * (down - 1)) / down];
    const points = data.cloud.keys.length,
      useGl = hasWebGL && points > 300;
    panels.forEach(([i, j], index) => {
      const [a, b] = [axes[i], axes[j]],
        suffix = index ? index + 1 : "",
        at = thin ? [0, index] : [i, j - 1];
      const outer = thin || at[1] === down - 1 || n < 3,
        left = thin || at[0] === 0;
      const domain = (k, size, position) => [position * (size + gap[k]), position * (size + gap[k]) + size];
      const [top, ends] = domain(1, cell[1], at[1]);
      const axis = (own, more) => ({ ...scaled(own), nticks: 5, ...more });
      layout[`xaxis${suffix}`] = axis(a, {
        domain: domain(0, cell[0], at[0]),
        anchor: `y${suffix}`,
        title: { text: outer ? a.title : "", standoff: 6 },
        showticklabels: outer,
      });
      layout[`yaxis${suffix}`] = axis(b, {
        domain: [1 - ends, 1 - top],
        anchor: `x${suffix}`,
        title: { text: left ? b.title : "", standoff: 4 },
        showticklabels: left,
      });
      const on = { xaxis: `x${suffix}`, yaxis: `y${suffix}` };
      const legend = (name, more) => ({ name, legendgroup: name, showlegend: !index, ...more });
      const every = points > 1500 && !useGl ? Math.ceil(points / 1500) : 1,
        some = values => values.filter((_, k) => k % every === 0);
      traces.push(
        {
          ...on,
          type: useGl ? "scattergl" : "scatter",
          mode: "markers",
          x: some(data.cloud.values[a.metric]),
          y: some(data.cloud.values[b.metric]),
          text: some(data.cloud.keys),
          hovertemplate: "not on the front: %{text}<extra></extra>",
          marker: { color: colour("cloud"), size: 4 },
          ...legend(`other evaluations${every > 1 ? `, 1 in ${every}` : ""}`),
          visible: points > 0,
        },
        {
          ...on,
          type: "scatter",
          mode: "markers",
          x: list.map(m => m.values[a.metric]),
          y: list.map(m => m.values[b.metric]),
          customdata: list.map(m => m.id),
          hovertemplate: list.map(hover),
          marker: {
            size: list.map(m => (m.roles.length ? 10 : 7)),
            color: list.map(m => colour(paint(m))),
            opacity: opacities(list),
            line: { color: colour("card"), width: 1 },
          },
          ...legend("members"),
        },
        ...data.baselines.map((own, k) => ({
          ...on,
          type: "scatter",
          mode: "markers",
          x: [own.values[a.metric]],
          y: [own.values[b.metric]],
          hovertemplate: hover(own),
          marker: {
            symbol: SYMBOLS[k % SYMBOLS.length],
            size: 10,
            color: colour("base"),
            line: { color: colour("card"), width: 1 },
          },
          ...legend(own.name),
        })),
        {
          ...on,
          type: "scatter",
          mode: "markers",
          x: data.ensembles.map(own => own.values[a.metric]),
          y: data.ensembles.map(own => own.values[b.metric]),
          hovertemplate: data.ensembles.map(hover),
          marker: { symbol: "square-open", size: 9, color: colour("c3") },
          visible: data.ensembles.length > 0,
          ...legend("ensembles"),
        },
        {
          ...on,
          type: "scatter",
          ...ring(17),
          showlegend: false,
        },
      );
    });
    const height = thin ? 300 * panels.length : Math.min(320 * down, 980) + 40;
    layout.legend =
      thin || n < 3
        ? { orientation: "h", y: 1.01, yanchor: "bottom" }
        : { x: 1, xanchor: "right", y: 1, yanchor: "top" };
    plot(element, traces, { ...layout, height, margin: { l: thin ? 52 : 64, t: thin ? 96 : 24 } });
  };
  view(element, draw, changed => {
    const chosen = members.get(state.id),
      count = element.data.length / panels.length;
    const rings = panels.map((_, index) => (index + 1) * count - 1);
    const at = axis => (chosen ? [chosen.values[axis.metric]] : []);
    if (changed)
      Plotly.restyle(
        element,
        { "marker.opacity": panels.map(() => opacities(list)) },
        panels.map((_, index) => index * count + 1),
      );
    Plotly.restyle(
      element,
      {
        x: panels.map(([i]) => at(axes[i])),
        y: panels.map(([, j]) => at(axes[j])),
        customdata: panels.map(() => (chosen ? [chosen.id] : [])),
      },
      rings,
    );
  });
}

/** Select elements for the axes of a figure; calls back with the chosen objectives. */
function chooser(element, labels, chosen, onchange) {
  element.append(
    ...labels.map((label, k) => {
      const own = h(
        "select",
        {
          onchange: event => {
            chosen[k] = Number(event.target.value);
            onchange();
          },
        },
        ...axes.map((axis, i) => h("option", { value: i, selected: i === chosen[k] }, axis.name)),
      );
      return h("label", {}, label, own);
    }),
  );
}

function space(element, menu) {
  if (!hasWebGL) {
    element.textContent = "The view in three dimensions needs WebGL, which this browser does not offer.";
    return;
  }
  const chosen = [0, 1, 2, Math.min(3, axes.length - 1)],
    list = [...members.values()];
  const draw = () => {
    const [a, b, c, d] = chosen.map(i => axes[i]);
    const values = own => list.map(member => member.values[own.metric]);
    const scale = own => ({ ...scaled(own), title: { text: own.title }, nticks: 5 });
    const shade = values(d).map(value => (d.log ? Math.log10(value) : value));
    const bar = {
      title: { text: `${d.name}${d.log ? ", log10" : ""}`, side: "top" },
      thickness: 12,
      len: 0.7,
      orientation: narrow() ? "h" : "v",
      ...(narrow() ? { y: -0.12 } : {}),
    };
    plot(
      element,
      [
        {
          type: "scatter3d",
          mode: "markers",
          name: "members",
          x: values(a),
          y: values(b),
          z: values(c),
          customdata: list.map(member => member.id),
          hovertemplate: list.map(hover),
          marker: {
            size: list.map(member => (isIn(member.id) ? 6 : 2.5)),
            color: shade,
            colorscale: "Viridis",
            reversescale: !d.max,
            colorbar: bar,
            line: { width: 0 },
          },
        },
        {
          type: "scatter3d",
          mode: "markers",
          name: "baselines",
          x: data.baselines.map(own => own.values[a.metric]),
          y: data.baselines.map(own => own.values[b.metric]),
          z: data.baselines.map(own => own.values[c.metric]),
          hovertemplate: data.baselines.map(hover),
          marker: { symbol: "diamond", size: 4, color: colour("base") },
        },
        {
          type: "scatter3d",
          mode: "markers",
          meta: "selected",
          x: [],
          y: [],
          z: [],
          customdata: [],
          hoverinfo: "skip",
          marker: { symbol: "circle-open", size: 13, color: colour("ink"), line: { width: 3, color: colour("ink") } },
        },
      ],
      {
        height: narrow() ? 440 : 560,
        showlegend: false,
        margin: { l: 0, r: 0, t: 0, b: 0 },
        uirevision: "camera",
        scene: {
          xaxis: scale(a),
          yaxis: scale(b),
          zaxis: scale(c),
          camera: {
            eye: narrow() ? { x: 2.1, y: -2.1, z: 1 } : { x: 1.6, y: -1.6, z: 0.8 },
            center: { x: 0, y: 0, z: -0.12 },
          },
          dragmode: "orbit",
        },
      },
    );
  };
  const mark = changed => {
    const chosenOne = members.get(state.id),
      at = i => (chosenOne ? [[chosenOne.values[axes[chosen[i]].metric]]] : [[]]);
    if (changed) Plotly.restyle(element, { "marker.size": [list.map(member => (isIn(member.id) ? 6 : 2.5))] }, [0]);
    Plotly.restyle(element, { x: at(0), y: at(1), z: at(2), customdata: [chosenOne ? [chosenOne.id] : []] }, [2]);
  };
  chooser(menu, ["across", "along", "up", "colour"], chosen, () => {
    draw();
    mark();
  });
  view(element, draw, mark);
}

function ranking(element) {
  let sorted = null; // index of an objective; null = by rank
  const heads = [
    "rank",
    "member",
    "key",
    ...axes.map(axis => axis.title),
    ...(members.size && [...members.values()].some(m => m.status) ? ["standing"] : []),
  ];
  const body = h("tbody");
  const table = h(
    "table",
    {},
    h("caption", {}, "All members; a row chooses its member, the arrow keys move up and down."),
    h(
      "thead",
      {},
      h(
        "tr",
        {},
        heads.map((title, i) =>
          h(
            "th",
            { scope: "col", class: i === 1 || i === 2 || i === 3 + axes.length ? "text" : "" },
            i === 0 || (i > 2 && i < 3 + axes.length)
              ? h(
                  "button",
                  {
                    type: "button",
                    onclick: () => {
                      sorted = i ? i - 3 : null;
                      update();
                    },
                  },
                  title,
                )
              : title,
          ),
        ),
      ),
    ),
    body,
  );
  body.addEventListener("keydown", event => {
    const row = document.activeElement.closest("tr"),
      next = { ArrowDown: "nextElementSibling", ArrowUp: "previousElementSibling" }[event.key];
    if (!next || !row?.[next]?.dataset.key) return;
    event.preventDefault();
    const id = row[next].dataset.key;
    select(id);
    body.querySelector(`tr[data-key="${id}"] button`).focus();
  });
  element.append(h("div", { class: "scroll" }, table));
  const rest = [...members.values()].filter(member => member.rank === null);
  view(
    element,
    () => {
      const cells = values => axes.map(axis => h("td", {}, show(values[axis.metric])));
      body.replaceChildren(
        ...[...members.values()].map(member =>
          h(
            "tr",
            { "data-key": member.id, onclick: () => select(member.id) },
            h("td", { class: "rank" }),
            h(
              "td",
              { class: "text" },
              swatch(member),
              h("button", { class: "link", type: "button", style: "all:unset;cursor:pointer" }, member.name),
            ),
            h("td", { class: "text" }, h("span", { class: "key" }, member.key.slice(0, 8))),
            ...cells(member.values),
            ...(heads.length > 3 + axes.length ? [h("td", { class: "text" }, member.status)] : []),
          ),
        ),
        ...data.baselines.map(own =>
          h(
            "tr",
            { class: "baseline" },
            h("td"),
            h("td", { class: "text" }, own.name),
            h("td", { class: "text" }, "baseline"),
            ...cells(own.values),
            ...(heads.length > 3 + axes.length ? [h("td")] : []),
          ),
        ),
      );
    },
    () => {
      const focused = document.activeElement;
      const rows = new Map([...body.rows].map(row => [row.dataset.key, row]));
      let shown = [...state.order, ...eligible.filter(member => !isIn(member.id)), ...rest];
      if (sorted !== null)
        shown = shown.sort(
          (a, b) =>
            axes[sorted].position(b.values[axes[sorted].metric]) - axes[sorted].position(a.values[axes[sorted].metric]),
        );
      [...table.tHead.rows[0].cells].forEach((cell, i) => {
        if (i === (sorted === null ? 0 : sorted + 3))
          cell.setAttribute("aria-sort", sorted !== null && axes[sorted].max ? "descending" : "ascending");
        else cell.removeAttribute("aria-sort");
      });
      const numbers = new Map(state.order.map((member, i) => [member.id, i + 1]));
      for (const member of shown) {
        const row = rows.get(member.id);
        row.cells[0].textContent = numbers.get(member.id) ?? "–";
        row.classList.toggle("out", !numbers.has(member.id));
        row.setAttribute("aria-selected", member.id === state.id);
      }
      body.prepend(...shown.map(member => rows.get(member.id)));
      if (body.contains(focused)) focused.focus();
    },
  );
}

/** Everything about the chosen member. */
function sheet(element) {
  element.open = document.documentElement.clientWidth > 1080;
  const announce = h("p", { class: "hidden", role: "status" });
  element.after(announce);
  view(
    element,
    () => {},
    () => {
      const member = members.get(state.id);
      if (!member || element.dataset.key === member.id) return;
      element.dataset.key = member.id;
      const run = runs[member.run],
        has = name => Object.values(member[name]).length > 0;
      const cell = (metric, values) => (values[metric] === undefined ? "–" : show(values[metric]));
      const tested = metric => {
        const own = member.test[metric];
        if (own === undefined) return ["–"];
        const interval =
          own.low === undefined ? null : small(`shipped ${show(own.shipped)}\n${show(own.low)} to ${show(own.high)}`);
        return [show(own.mean), own.sd ? ` ± ${show(own.sd)}` : null, interval];
      };
      const small = text => h("small", { class: "soft" }, text);
      const own = metric => [
        cell(metric, member.values),
        member.sds[metric] ? ` ± ${show(member.sds[metric])}` : null,
        member.claimed[metric] === undefined ? null : small(`claimed ${show(member.claimed[metric])}`),
      ];
      const heads = ["metric", has("claimed") ? "fresh seeds" : "validation", ...(has("test") ? ["test, 95 %"] : [])];
      const arrow = metric => (data.directions[metric].max === null ? "" : data.directions[metric].max ? " ↑" : " ↓");
      const called = metric => axes.find(axis => axis.metric === metric)?.name ?? metric;
      const rows = names =>
        names.map(metric =>
          h(
            "tr",
            {},
            h("td", {}, called(metric) + arrow(metric)),
            h("td", {}, own(metric)),
            ...(has("test") ? [h("td", {}, tested(metric))] : []),
          ),
        );
      const table = names =>
        h(
          "table",
          { class: "figures" },
          h(
            "thead",
            {},
            h(
              "tr",
              {},
              heads.map(head => h("th", { scope: "col" }, head)),
            ),
          ),
          h("tbody", {}, rows(names)),
        );
      const measured = Object.keys(data.directions).filter(
        metric => member.values[metric] !== undefined || member.claimed[metric] !== undefined,
      );
      const isGoal = metric =>
        axes.some(axis => axis.metric === metric) || /^(recall|ndcg|catalogue_coverage)@/.test(metric);
      const genes = Object.entries(member.genes),
        isOther = ([gene, value]) => run.default[gene] !== value;
      const known = Object.keys(run.default).length > 0,
        changed = known ? genes.filter(isOther) : genes;
      const genome = list =>
        h(
          "table",
          {},
          h(
            "thead",
            {},
            h(
              "tr",
              {},
              ["gene", "here", ...(known ? ["default"] : [])].map(head => h("th", { scope: "col" }, head)),
            ),
          ),
          h(
            "tbody",
            {},
            list.map(([gene, value]) =>
              h(
                "tr",
                {},
                h("td", {}, gene),
                h("td", {}, value),
                ...(known ? [h("td", {}, run.default[gene] ?? "not active")] : []),
              ),
            ),
          ),
        );
      const standing = [
        member.status
          ? `${member.status[0].toUpperCase()}${member.status.slice(1)}.`
          : "Validation figures chose this member, so they are optimistic.",
        has("test") ? "Measured once on the test, trained again with fresh seeds." : "Not measured on the test.",
        ...(member.energy ? [`Energy of its training: ${member.energy}.`] : []),
      ];
      const copy = h(
        "button",
        {
          class: "button",
          type: "button",
          onclick: async event => {
            getSelection().selectAllChildren(element.querySelector("pre"));
            try {
              await navigator.clipboard.writeText(member.command);
              event.target.textContent = "Copied";
            } catch {
              /* the text is selected */
            }
          },
        },
        "Copy",
      );
      element.replaceChildren(
        h(
          "summary",
          {},
          swatch(member),
          h("span", {}, member.name),
          h("span", { class: "key" }, member.key.slice(0, 8)),
        ),
        h(
          "p",
          { class: "soft" },
          h("span", { class: "key" }, member.key),
          runs.length > 1 ? ` of ${run.name}` : "",
          member.roles.length > 1 ? `; also ${member.roles.slice(1).join(", ")}` : "",
        ),
        h("p", { class: "soft" }, standing.join(" ")),
        table(measured.filter(isGoal)),
        measured.some(metric => !isGoal(metric))
          ? h(
              "details",
              {},
              h("summary", { class: "soft" }, `All ${measured.length} metrics`),
              table(measured.filter(metric => !isGoal(metric))),
            )
          : null,
        ...(member.command ? [h("h3", {}, "Export"), h("pre", {}, h("code", {}, member.command)), copy] : []),
        ...(member.rates.length
          ? [
              h("h3", {}, "Exchange rates"),
              h(
                "ul",
                {},
                member.rates.map(rate =>
                  h(
                    "li",
                    {},
                    `${rate.text} `,
                    h("button", { class: "link", type: "button", onclick: () => select(rate.to) }, "show"),
                  ),
                ),
              ),
            ]
          : []),
        h("h3", {}, known ? "Genome against the default" : "Genome"),
        genome(changed),
        known && genes.length > changed.length
          ? h(
              "details",
              {},
              h("summary", { class: "soft" }, `${genes.length - changed.length} genes have their default`),
              genome(genes.filter(gene => !isOther(gene))),
            )
          : null,
        h("h3", {}, "Model card"),
        h(
          "ul",
          {},
          run.card.map(line => h("li", {}, line)),
        ),
      );
      announce.textContent = `${member.name}, ${member.key.slice(0, 8)}: ${axes.map(axis => `${axis.name} ${axis.text(member.values[axis.metric])}`).join(", ")}`;
    },
  );
}

// ---- other figures of a run ----------------------------------------------------------------------------------------

/** Fronts as claimed, with fresh seeds and on the test, with a line from each to the next. */
function confirmed(element, menu, { rows, seeds }) {
  const moving = axes
    .map((axis, i) => i)
    .filter(i =>
      rows.some(row =>
        row.fresh[axes[i].metric] !== undefined
          ? row.fresh[axes[i].metric] !== row.claimed[axes[i].metric]
          : row.test[axes[i].metric] !== undefined,
      ),
    );
  const chosen = [moving[0] ?? 0, moving[1] ?? Math.min(1, axes.length - 1)];
  const draw = () => {
    const [a, b] = chosen.map(i => axes[i]);
    const points = (list, part) => ({
      x: list.map(row => row[part][a.metric]),
      y: list.map(row => row[part][b.metric]),
      customdata: list.map(row => row.id),
      mode: "markers",
      hovertemplate: list.map(
        row =>
          `<b>${members.get(row.id)?.name ?? row.id}</b> ${row.id.slice(0, 8)}, ${part}<br>${a.name} %{x}<br>${b.name} %{y}<extra></extra>`,
      ),
    });
    const has = part => rows.filter(row => row[part][a.metric] !== undefined && row[part][b.metric] !== undefined);
    const links = (from, to, list) => ({
      x: list.flatMap(row => [row[from][a.metric], row[to][a.metric], null]),
      y: list.flatMap(row => [row[from][b.metric], row[to][b.metric], null]),
      mode: "lines",
      hoverinfo: "skip",
      showlegend: false,
      line: { color: colour("member"), width: 1 },
    });
    const fresh = has("fresh"),
      tested = has("test"),
      fell = fresh.filter(row => row.standing !== "member");
    plot(
      element,
      [
        links("claimed", "fresh", fresh),
        links(
          seeds ? "fresh" : "claimed",
          "test",
          tested.filter(row => row[seeds ? "fresh" : "claimed"][a.metric] !== undefined),
        ),
        {
          ...points(has("claimed"), "claimed"),
          name: "claimed by the search",
          marker: { symbol: "circle-open", size: 8, color: colour("soft") },
        },
        {
          ...points(
            fresh.filter(row => row.standing === "member"),
            "fresh",
          ),
          name: `confirmed, ${seeds} fresh seed${seeds === 1 ? "" : "s"}`,
          marker: { size: 9, color: colour("c0"), line: { color: colour("card"), width: 1 } },
        },
        {
          ...points(fell, "fresh"),
          name: "fell off the front",
          marker: { symbol: "x", size: 9, color: colour("base") },
        },
        {
          ...points(tested, "test"),
          name: "picks on the test",
          marker: { symbol: "star", size: 13, color: colour("c1") },
        },
        { ...ring(18), showlegend: false },
      ],
      {
        height: 440,
        legend: { orientation: "h", y: 1.02, yanchor: "bottom" },
        margin: { t: narrow() ? 110 : 48 },
        xaxis: { ...scaled(a), title: { text: a.title } },
        yaxis: { ...scaled(b), title: { text: b.title } },
      },
    );
  };
  const mark = () => {
    const row = rows.find(own => own.id === state.id),
      parts = row ? ["claimed", "fresh", "test"].filter(part => row[part][axes[chosen[0]].metric] !== undefined) : [];
    Plotly.restyle(
      element,
      {
        x: [parts.map(part => row[part][axes[chosen[0]].metric])],
        y: [parts.map(part => row[part][axes[chosen[1]].metric])],
        customdata: [parts.map(() => row.id)],
      },
      [6],
    );
  };
  chooser(menu, ["across", "up"], chosen, () => {
    draw();
    mark();
  });
  view(element, draw, mark);
}

/** Earlier against later values of the same genomes, a panel per objective. */
function pairs(element, menu, { groups }) {
  let group = groups[0];
  const draw = () => {
    const shown = group.points,
      thin = narrow(),
      across = thin ? 1 : Math.min(shown.length, 4),
      down = Math.ceil(shown.length / across);
    const layout = {
      grid: { rows: down, columns: across, pattern: "independent", xgap: 0.2, ygap: 0.34 },
      annotations: [],
      showlegend: false,
      height: 40 + 300 * down,
    };
    const traces = shown.flatMap((own, k) => {
      const axis = axes.find(found => found.metric === own.metric),
        suffix = k ? k + 1 : "",
        on = { xaxis: `x${suffix}`, yaxis: `y${suffix}`, type: "scatter" };
      const both = [...own.x, ...own.y],
        ends = [Math.min(...both), Math.max(...both)];
      const scale = title => ({ ...scaled(axis), nticks: 5, title: { text: title, standoff: 4, font: { size: 12 } } });
      layout[`xaxis${suffix}`] = scale(group.x);
      layout[`yaxis${suffix}`] = scale(k % across ? "" : group.y);
      layout.annotations.push({
        text: `<b>${axis.name}</b>${own.correlation === null ? "" : `  rank correlation ${own.correlation.toFixed(2)}`}`,
        showarrow: false,
        xref: `x${suffix} domain`,
        yref: `y${suffix} domain`,
        x: 0,
        y: 1.02,
        yanchor: "bottom",
        xanchor: "left",
        font: { size: 12 },
      });
      return [
        {
          ...on,
          x: ends,
          y: ends,
          mode: "lines",
          hoverinfo: "skip",
          line: { color: colour("member"), width: 1, dash: "dot" },
        },
        {
          ...on,
          x: own.x,
          y: own.y,
          mode: "markers",
          customdata: own.keys,
          marker: { size: 6, color: colour("c0"), opacity: 0.7 },
          hovertemplate: own.keys.map(
            key =>
              `<b>${members.get(key)?.name ?? ""}</b> ${key.slice(0, 8)}<br>${group.x}: %{x}<br>${group.y}: %{y}<extra></extra>`,
          ),
        },
        { ...on, ...ring(16) },
      ];
    });
    plot(element, traces, layout);
  };
  const mark = () =>
    group.points.forEach((own, k) => {
      const at = own.keys.indexOf(state.id);
      Plotly.restyle(
        element,
        at < 0
          ? { x: [[]], y: [[]], customdata: [[]] }
          : { x: [[own.x[at]]], y: [[own.y[at]]], customdata: [[state.id]] },
        [3 * k + 2],
      );
    });
  if (groups.length > 1)
    menu.append(
      h(
        "label",
        {},
        "compare",
        h(
          "select",
          {
            onchange: event => {
              group = groups[event.target.value];
              Plotly.purge(element);
              delete element.dataset.bound;
              draw();
              mark();
            },
          },
          groups.map((own, i) => h("option", { value: i }, own.title)),
        ),
      ),
    );
  view(element, draw, mark);
}

function progress(element, menu, own) {
  const n = own.hypervolume.length,
    generations = own.hypervolume.map((_, i) => i + 1);
  const scales = {
    generation: generations,
    "training FLOPs": own.flops,
    hours: own.seconds.map(second => second / 3600),
    minutes: own.seconds.map(second => second / 60),
  };
  delete scales[own.seconds[n - 1] > 7200 ? "minutes" : "hours"];
  if (!(own.flops[n - 1] > 0)) delete scales["training FLOPs"];
  let chosen = "generation";
  const draw = () => {
    const x = scales[chosen],
      known = generations.map((_, i) => i).filter(i => own.forecast[i]);
    const at = (part, list = known) => ({ x: list.map(i => x[i]), y: list.map(i => own.forecast[i][part]) });
    const low = at(0),
      high = at(2, [...known].reverse());
    plot(
      element,
      [
        {
          x: [...low.x, ...high.x],
          y: [...low.y, ...high.y],
          fill: "toself",
          mode: "none",
          fillcolor: colour("c1"),
          opacity: 0.18,
          hoverinfo: "skip",
          name: "forecast, 80 %",
          visible: known.length > 0,
        },
        {
          ...at(1),
          mode: "lines",
          line: { color: colour("c1"), dash: "dot" },
          name: "forecast, median",
          visible: known.length > 0,
          hovertemplate: "forecast %{y:.4f}<extra></extra>",
        },
        {
          x,
          y: own.hypervolume,
          mode: "lines+markers",
          line: { color: colour("c0"), width: 2.5 },
          name: "measured",
          text: generations,
          hovertemplate: "generation %{text}<br>%{y:.4f} of the box<extra></extra>",
        },
      ],
      {
        height: 340,
        legend: { orientation: "h", y: 1.02, yanchor: "bottom" },
        margin: { t: 40 },
        xaxis: {
          title: { text: chosen },
          exponentformat: "SI",
          ...(chosen === "generation" && n <= 12 ? { dtick: 1 } : {}),
        },
        yaxis: { title: { text: "share of the box" }, rangemode: "tozero" },
      },
    );
  };
  menu.append(
    h(
      "label",
      {},
      "over",
      h(
        "select",
        {
          onchange: event => {
            chosen = event.target.value;
            draw();
          },
        },
        Object.keys(scales).map(name => h("option", {}, name)),
      ),
    ),
  );
  view(element, draw);
}

function fates(element, own) {
  const names = Object.keys(own.fates),
    shades = ["c0", "cloud", "member", "c3", "c4"];
  view(element, () =>
    plot(
      element,
      names.map((name, i) => ({
        type: "bar",
        x: own.generations,
        y: own.fates[name],
        name,
        marker: { color: colour(name === "failed" ? "base" : shades[Math.min(i, shades.length - 1)]) },
        hovertemplate: `generation %{x}: %{y} ${name}<extra></extra>`,
      })),
      {
        height: 280,
        barmode: "stack",
        showlegend: true,
        legend: { orientation: "h", y: 1.02, yanchor: "bottom", traceorder: "normal" },
        margin: { t: 40 },
        xaxis: { title: { text: "generation" }, tickformat: "d" },
        yaxis: { title: { text: "genomes" } },
      },
    ),
  );
}

// ---- start ---------------------------------------------------------------------------------------------------------

const byId = id => document.getElementById(id);
const scrolled = recall();
if (data && members.size) {
  rank();
  state.id ??= state.order[0]?.id ?? [...members.keys()][0];
  chips(byId("chips"));
  controls(byId("controls"));
  sheet(byId("sheet"));
  parallel(byId("parallel"));
  matrix(byId("matrix"));
  if (byId("space")) space(byId("space"), byId("space-axes"));
  ranking(byId("members"));
  for (const row of document.querySelectorAll("table.sortable tr[data-key]"))
    row.addEventListener("click", () => select(row.dataset.key));
  view(
    document.querySelector("footer"),
    () => {},
    () => {
      for (const row of document.querySelectorAll("table.sortable tr[data-key]"))
        row.setAttribute("aria-selected", row.dataset.key === state.id);
    },
  );
  reveal(views.at(-1));
}
for (const [name, draw] of Object.entries({ confirmed, early: pairs, memory: pairs, progress })) {
  const own = read(`${name}-data`);
  if (own) draw(byId(name), byId(`${name}-axes`), own);
}
if (byId("fates")) fates(byId("fates"), read("progress-data"));

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
let width = document.documentElement.clientWidth;
addEventListener("resize", () => {
  if (width !== (width = document.documentElement.clientWidth)) redraw();
});
/** Light colours and the width of a sheet of paper, while the page is printed. */
function print(is) {
  document.documentElement.classList.toggle("printing", is);
  redraw();
  for (const figure of document.querySelectorAll(".js-plotly-plot")) Plotly.Plots.resize(figure);
}
addEventListener("beforeprint", () => {
  for (const own of views) reveal(own);
  for (const own of document.querySelectorAll("details")) own.open = true;
  print(true);
});
addEventListener("afterprint", () => print(false));
if (scrolled && live) scrollTo(0, scrolled);
if (live)
  setInterval(() => {
    if (document.visibilityState === "visible") {
      remember();
      location.reload();
    }
  }, 1000 * live);
