"use strict";
// Draws the figures in the colours of the page, again when the reader's colour scheme or
// the width of the page changes.
(() => {
  const figures = JSON.parse(document.getElementById("figures").textContent);
  const touch = matchMedia("(pointer: coarse)").matches;
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  const layout = ({ layout: own, data }, width) => {
    const narrow = width < 500;
    const axis = (own) => ({
      automargin: true,
      gridcolor: colour("--grid"),
      zerolinecolor: colour("--grid"),
      linecolor: colour("--grid"),
      fixedrange: touch,
      ...own,
      title: { standoff: 12, font: { size: narrow ? 11 : 13 }, ...own.title },
    });
    return {
      ...own,
      xaxis: axis(own.xaxis),
      yaxis: axis(own.yaxis),
      width,
      // A narrow legend takes a line for each name.
      height: 340 + (narrow && data.length > 4 ? 16 * data.length : 0),
      margin: { l: 8, r: 12, t: 12, b: 8 },
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      font: {
        family: getComputedStyle(document.body).fontFamily,
        size: narrow ? 11 : 13,
        color: colour("--text"),
      },
      hoverlabel: {
        align: "left",
        bgcolor: colour("--card"),
        bordercolor: colour("--grid"),
        font: { color: colour("--text") },
        namelength: -1,
      },
      legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0, traceorder: "normal" },
      dragmode: touch ? false : "zoom",
    };
  };

  const draw = () => {
    for (const [name, figure] of Object.entries(figures)) {
      const place = document.getElementById(`plot-${name}`);
      if (!place) continue;
      Plotly.react(place, figure.data, layout(figure, place.clientWidth), { displayModeBar: false });
    }
  };

  let width = 0;
  const fit = () => {
    if (width === document.body.clientWidth) return;
    width = document.body.clientWidth;
    draw();
  };

  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  new ResizeObserver(() => requestAnimationFrame(fit)).observe(document.body);
})();
