(async function () {
  "use strict";
  // Plotly, the figures and long tables are compressed in the page, to a third of their size.
  async function unpacked(id) {
    const text = atob(document.getElementById(id).textContent);
    const bytes = new Uint8Array(text.length);
    for (let n = 0; n < bytes.length; n += 1) bytes[n] = text.charCodeAt(n);
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
    return new Response(stream).text();
  }

  function run(text) {
    const script = document.createElement("script");
    script.textContent = text;
    document.body.append(script);
  }

  const { figures, tables, axes } = JSON.parse(await unpacked("packed"));

  document.addEventListener("toggle", function (event) {
    const { table } = event.target.dataset;
    if (!table || !event.target.open) return;
    event.target.insertAdjacentHTML("beforeend", tables[table]);
    delete event.target.dataset.table;
  }, true);

  // Figures refer to colours by their names in the style sheet.
  const root = document.documentElement;
  const name = /^var\((--(?:arm-\d+(?:-band)?|ink|soft-ink|soft|grid|paper|margin))\)$/;
  const plots = Array.from(document.querySelectorAll(".plot"));
  const font = getComputedStyle(document.body).fontFamily;

  function coloured(value, style) {
    if (typeof value === "string") {
      const found = name.exec(value);
      return found ? style.getPropertyValue(found[1]).trim() : value;
    }
    if (Array.isArray(value)) return value.map((inner) => coloured(inner, style));
    if (value && typeof value === "object") {
      return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, coloured(inner, style)]));
    }
    return value;
  }

  // Learning curves are drawn over optimizer steps; `axes` holds the other axes.
  let axis = "steps";

  function place(known, seed) {
    if (typeof known !== "object") return known;
    if (typeof seed === "number" && seed in known) return known[seed];
    const all = Object.values(known);
    return all.reduce((sum, one) => sum + one, 0) / all.length;
  }

  function moved(figure) {
    const chosen = axes[axis];
    if (!chosen || figure.layout.meta !== "steps") return;
    for (const trace of figure.data) {
      const places = chosen.arms[trace.meta];
      const seeds = trace.customdata || [];
      trace.x = trace.x.map((step, n) => (step === null ? null : place(places[step], seeds[n])));
    }
    figure.layout.xaxis.title.text = chosen.title;
  }

  function draw(plot) {
    const figure = coloured(figures[plot.dataset.figure], getComputedStyle(root));
    moved(figure);
    figure.layout.font.family = font;
    figure.layout.hoverlabel.font.family = font;
    figure.layout.width = Math.max(plot.clientWidth, 200);
    Plotly.react(plot, figure.data, figure.layout, { displayModeBar: false });
  }

  // A figure is drawn when it comes near the window, so a page of a hundred opens as fast as one of
  // three. `look` counts changes of style; a figure drawn before the last change is drawn again.
  let look = 0;
  const lookOf = new WeakMap();
  const near = new Set();

  function show(plot) {
    if (lookOf.get(plot) === look || !plot.clientWidth) return;
    lookOf.set(plot, look);
    draw(plot);
  }

  function renew() {
    look += 1;
    near.forEach(show);
  }

  run(await unpacked("plotly"));

  const watched = new IntersectionObserver(function (entries) {
    for (const entry of entries) {
      if (entry.isIntersecting) near.add(entry.target);
      else near.delete(entry.target);
    }
    near.forEach(show);
    root.dataset.drawn = "yes";
  }, { rootMargin: "400px 0px" });
  plots.forEach((plot) => watched.observe(plot));
  if (!plots.length) root.dataset.drawn = "yes";

  let waiting = 0;
  let width = root.clientWidth;
  addEventListener("resize", function () {
    if (root.clientWidth === width) return;
    width = root.clientWidth;
    clearTimeout(waiting);
    waiting = setTimeout(renew, 150);
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", renew);

  // Every measure has the same switch; all switches move together.
  const switches = Array.from(document.querySelectorAll(".axis"));
  switches.forEach(function (group) {
    group.hidden = false;
    group.addEventListener("change", function (event) {
      axis = event.target.value;
      switches.forEach((other) => { other.querySelector(`[value="${axis}"]`).checked = true; });
      renew();
    });
  });

  // Highlight the link of the section in view.
  const links = new Map(
    Array.from(document.querySelectorAll("nav a"), (link) => [link.hash.slice(1), link])
  );
  const read = new IntersectionObserver(function (entries) {
    for (const entry of entries) {
      const link = links.get(entry.target.id);
      if (entry.isIntersecting) link.setAttribute("aria-current", "true");
      else link.removeAttribute("aria-current");
    }
  }, { rootMargin: "-25% 0px -74% 0px" });
  document.querySelectorAll("section[id]").forEach(function (section) {
    if (links.has(section.id)) read.observe(section);
  });

  // Print in light colours, with collapsed parts opened.
  const opened = [];
  addEventListener("beforeprint", function () {
    root.dataset.paper = "yes";
    for (const details of document.querySelectorAll("details[data-print]:not([open])")) {
      details.open = true;
      opened.push(details);
    }
    look += 1;
    plots.forEach(show);
  });
  addEventListener("afterprint", function () {
    delete root.dataset.paper;
    opened.splice(0).forEach((details) => { details.open = false; });
    renew();
  });
})();
