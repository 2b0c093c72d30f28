// Labels: the words that people sort their torrents by. They are given and taken on a torrent's page, and narrow lists.
import { tell } from "./api.js";
import { announce, h, keyed, say } from "./dom.js";

/** Letters of a label. The gateway counts bytes, and says so where there are too many. */
const MOST_LETTERS = 64;

/** The labels of an item, to change; `show` tells which it bears, and when that was asked. */
export function labelsOf(infohash) {
  const list = h("ul", { class: "tags", "aria-label": "Labels" });
  const fault = h("p", { class: "fault", role: "alert", id: "label-fault" });
  const input = h("input", { type: "text", id: "label", autocomplete: "off", autocapitalize: "off", maxlength: MOST_LETTERS, size: 14, "aria-describedby": "label-fault" });
  const form = h("form", { class: "field", onsubmit: give }, h("label", { for: "label" }, "Label"), input, h("button", {}, "Add"));
  const node = h("div", { class: "labels", hidden: true }, list, form, fault);
  const update = keyed(list, tag);
  let [labels, told] = [[], 0];
  return { node, show };

  function show(now, asked) {
    if (asked < told || !Array.isArray(now)) return;
    labels = now;
    node.hidden = false;
    list.hidden = labels.length === 0;
    update(labels, (label) => label);
  }

  function tag(label) {
    const button = h("button", { type: "button", class: "link", "aria-label": `Remove label ${label}`, onclick: take }, "×");
    return { node: h("li", { class: "tag" }, label, button) };

    async function take() {
      if (await change(labels.filter((one) => one !== label))) {
        announce(`No longer labelled ${label}`);
        // The button that was pressed is gone.
        input.focus();
      }
    }
  }

  async function give(event) {
    event.preventDefault();
    const label = input.value.trim();
    if (!label) return;
    if (labels.includes(label) || (await change([...labels, label]))) {
      input.value = "";
      announce(`Labelled ${label}`);
    }
  }

  async function change(wanted) {
    say(fault, "");
    try {
      const item = await tell("PATCH", `items/${infohash}`, { labels: wanted });
      told = performance.now();
      show(item.labels, told);
      return true;
    } catch (error) {
      say(fault, error.message);
      return false;
    }
  }
}

/** The label that lists are narrowed to, from one page to the next; none is "". */
let wanted = "";

/** A choice among the labels that items bear. `narrow` gives those of them that bear the one chosen; `again` is called for it. */
export function labelFilter(again) {
  const choice = h("select", { id: "by-label", onchange: () => ((wanted = choice.value), again()) });
  const node = h("p", { class: "field", hidden: true }, h("label", { for: "by-label" }, "Label"), choice);
  let known = "";
  return { node, narrow };

  function narrow(items) {
    const all = [...new Set(items.flatMap(({ labels }) => labels ?? []))].sort((one, other) => one.localeCompare(other));
    // The last that bore it may be gone.
    if (!all.includes(wanted)) wanted = "";
    node.hidden = all.length === 0;
    if (JSON.stringify(all) !== known) {
      known = JSON.stringify(all);
      choice.replaceChildren(h("option", { value: "" }, "All"), ...all.map((label) => h("option", { value: label }, label)));
    }
    if (choice.value !== wanted) choice.value = wanted;
    return wanted ? items.filter(({ labels }) => labels.includes(wanted)) : items;
  }
}
