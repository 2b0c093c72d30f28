// The options in force: what each is, what it means, and where its value comes from. They are changed where they come from.
import { get } from "./api.js";
import { h, say } from "./dom.js";

const BUILT_IN = "built in";

export async function show(main, { signal, retitle }) {
  retitle("Settings");
  const { options } = await get("config", { signal });
  if (signal.aborted) return;
  const sections = new Map();
  for (const option of options) {
    const [section] = option.key.split(".");
    if (!sections.has(section)) sections.set(section, []);
    sections.get(section).push(option);
  }
  const filter = h("input", { type: "search", id: "filter", autocomplete: "off", oninput: narrow });
  const changed = h("input", { type: "checkbox", id: "changed", onchange: narrow });
  const found = h("p", { class: "facts", role: "status" });
  const rows = [];
  const parts = [...sections].map(([name, all]) => {
    const list = all.map((option) => {
      const node = row(option);
      rows.push({ option, node, text: `${option.key} ${option.doc} ${option.value}`.toLowerCase() });
      return node;
    });
    return h("section", { "aria-labelledby": `c-${name}` }, h("h2", { id: `c-${name}` }, name), h("dl", { class: "options" }, list));
  });
  main.append(
    h("h1", {}, "Settings"),
    h("p", { class: "quiet" }, "Values come from flags, the environment, files or are built in, in this order. They are changed there."),
    h("div", { class: "field filter", role: "search" }, h("label", { for: "filter" }, "Find"), filter, h("label", { class: "check", for: "changed" }, changed, " Only what was changed")),
    found,
    ...parts,
  );
  narrow();

  function narrow() {
    const wanted = filter.value.trim().toLowerCase();
    let shown = 0;
    for (const { option, node, text } of rows) {
      node.hidden = !text.includes(wanted) || (changed.checked && option.origin === BUILT_IN);
      shown += node.hidden ? 0 : 1;
    }
    for (const part of parts) part.hidden = [...part.querySelectorAll("dl > div")].every((node) => node.hidden);
    say(found, `${shown} of ${rows.length} options`);
  }
}

function row({ key, value, origin, doc }) {
  const own = origin !== BUILT_IN;
  return h(
    "div",
    { class: own ? "own" : "" },
    h("dt", {}, h("code", {}, key.slice(key.indexOf(".") + 1)), h("span", { class: "origin" }, own ? `from ${origin}` : origin)),
    h("dd", {}, h("code", { class: "value" }, written(value)), h("p", {}, String(doc ?? "").replace(/\s+/g, " "))),
  );
}

function written(value) {
  if (Array.isArray(value)) return value.length > 0 ? value.join("\n") : "none";
  return value === "" ? "none" : String(value);
}
