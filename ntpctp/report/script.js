(function () {
  "use strict";
  // Figures name their colours as the style sheet does; what they look like is decided there.
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

  function draw(plot) {
    const stored = JSON.parse(document.getElementById(plot.dataset.figure).textContent);
    const figure = coloured(stored, getComputedStyle(root));
    figure.layout.font.family = font;
    figure.layout.hoverlabel.font.family = font;
    figure.layout.width = Math.max(plot.clientWidth, 200);
    Plotly.react(plot, figure.data, figure.layout, { displayModeBar: false });
  }

  function drawAll() { plots.forEach(draw); }

  // One figure at a time, so that the page answers while the lower ones are drawn.
  function drawFrom(place) {
    if (place >= plots.length) { root.dataset.drawn = "yes"; return; }
    draw(plots[place]);
    setTimeout(drawFrom, 0, place + 1);
  }
  drawFrom(0);

  let waiting = 0;
  let width = root.clientWidth;
  addEventListener("resize", function () {
    if (root.clientWidth === width) return;
    width = root.clientWidth;
    clearTimeout(waiting);
    waiting = setTimeout(drawAll, 150);
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);

  // Paper is white and narrow, whatever the screen is.
  addEventListener("beforeprint", function () { root.dataset.paper = "yes"; drawAll(); });
  addEventListener("afterprint", function () { delete root.dataset.paper; drawAll(); });
})();
