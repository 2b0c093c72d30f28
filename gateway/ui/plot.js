// A plot of rates over time: lines over a shared scale, drawn as SVG, with the newest value in words beside each.
import { h, say, svg } from "./dom.js";
import { rate } from "./words.js";

const [WIDTH, HEIGHT] = [600, 140];

/** A plot of `series`, `[{ key, label, class }]`, over so many samples. */
export function plot(title, series, most) {
  const lines = series.map((one) => svg("polyline", { class: one.class, fill: "none", "vector-effect": "non-scaling-stroke" }));
  const under = svg("polygon", { class: `under ${series[0].class}` });
  const grid = [0.25, 0.5, 0.75].map((part) => svg("line", { class: "grid", x1: 0, x2: WIDTH, y1: HEIGHT * part, y2: HEIGHT * part }));
  const scale = h("span", { class: "scale" });
  const values = series.map(() => h("strong", {}));
  const picture = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img", "aria-label": title }, grid, under, lines);
  const node = h(
    "figure",
    { class: "plot" },
    h("div", { class: "canvas" }, picture, scale),
    h("figcaption", {}, series.map((one, at) => h("span", { class: `key ${one.class}` }, `${one.label} `, values[at]))),
  );
  return {
    node,
    update(samples) {
      const top = ceiling(Math.max(1024, ...samples.flatMap((sample) => series.map(({ key }) => sample[key]))));
      const x = (at) => (WIDTH * (at + most - samples.length)) / (most - 1);
      const y = (value) => HEIGHT - (HEIGHT * value) / top;
      series.forEach(({ key, label }, at) => {
        const points = samples.map((sample, index) => `${x(index).toFixed(1)},${y(sample[key]).toFixed(1)}`);
        lines[at].setAttribute("points", points.join(" "));
        if (at === 0 && points.length > 0) under.setAttribute("points", `${x(0)},${HEIGHT} ${points.join(" ")} ${WIDTH},${HEIGHT}`);
        say(values[at], rate(samples.at(-1)?.[key] ?? 0));
        picture.setAttribute("aria-label", `${title}: ${label} ${values[at].textContent}`);
      });
      picture.setAttribute("aria-label", `${title}: ${series.map(({ label }, at) => `${label} ${values[at].textContent}`).join(", ")}`);
      say(scale, rate(top));
    },
  };
}

/** The next power of two, so that the scale seldom changes. */
const ceiling = (value) => 2 ** Math.ceil(Math.log2(value));
