"use strict";
// Draws the figures in the colours of the page, again when the reader's colour scheme changes.
(() => {
  const figures = JSON.parse(document.getElementById("figures").textContent);
  const touch = matchMedia("(pointer: coarse)").matches;
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  const axis = (own, narrow) => ({
    automargin: true,
    gridcolor: colour("--grid"),
    zerolinecolor: colour("--grid"),
    linecolor: colour("--grid"),
    fixedrange: touch,
    ...own,
    title: { standoff: 12, font: { size: narrow ? 11 : 13 }, ...own.title },
  });

  const layout = (own, narrow, traces) => ({
    ...own,
    xaxis: axis(own.xaxis, narrow),
    yaxis: axis(own.yaxis, narrow),
    // A narrow legend takes a line for each name.
    height: 340 + (narrow && traces > 4 ? 16 * traces : 0),
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
  });

  const draw = () => {
    for (const [name, figure] of Object.entries(figures)) {
      const place = document.getElementById(`plot-${name}`);
      if (!place) continue;
      const narrow = place.clientWidth < 500;
      Plotly.react(place, figure.data, layout(figure.layout, narrow, figure.data.length), {
        responsive: true,
        displaylogo: false,
        displayModeBar: false,
      });
    }
  };

  dark.addEventListener("change", draw);
  draw();
})();
