// Which files of a torrent the gateway downloads and keeps: a box before each file and folder, and the button that tells it.
import { tell } from "./api.js";
import { announce, h, say } from "./dom.js";
import { bytes, count } from "./words.js";

/** The numbers of the files that a selection names, as `0,2,4-7`; null names all. */
export function numbersOf(files, select) {
  const runs = select?.split(",").map((run) => run.split("-").map(Number));
  const chosen = runs ? files.filter(({ index }) => runs.some(([first, last = first]) => index >= first && index <= last)) : files;
  return new Set(chosen.map(({ index }) => index));
}

/** The selection that names these numbers, null for all. Files come by number; what only fills up between two is not among them. */
export function selectionOf(files, numbers) {
  if (files.every(({ index }) => numbers.has(index))) return null;
  const runs = [];
  let goesOn = false;
  for (const { index } of files) {
    const chosen = numbers.has(index);
    if (chosen && goesOn) runs.at(-1)[1] = index;
    else if (chosen) runs.push([index, index]);
    goesOn = chosen;
  }
  return runs.map(([first, last]) => (first === last ? `${first}` : `${first}-${last}`)).join(",");
}

/**
 * Makes the boxes and the button for a torrent, as its item is. `box` gives a box for some of the files, `show` tells how
 * the item is and when that was asked, and `changed` is called when the gateway was told something.
 */
export function chooser({ infohash, files }, item, changed) {
  const all = files.toSorted((one, other) => one.index - other.index);
  const boxes = [];
  const words = h("span", { class: "facts", role: "status" });
  const fault = h("p", { class: "fault", role: "alert" });
  const button = h("button", { type: "button", onclick: save });
  let chosen = numbersOf(all, item.select);
  // What is in force at the gateway, and whether it is not what the boxes say.
  let [select, pinned, touched] = [item.select, item.pinned, false];
  let [told, busy] = [0, false];
  const node = h("div", { class: "choice" }, h("p", { class: "actions" }, button, words), fault);
  draw();
  return { node, box, show };

  function box(covered, label) {
    const input = h("input", { type: "checkbox", class: "choose", "aria-label": label, onchange });
    boxes.push({ input, covered });
    tick({ input, covered });
    return input;

    function onchange() {
      for (const { index } of covered) {
        if (input.checked) chosen.add(index);
        else chosen.delete(index);
      }
      touched = true;
      say(fault, "");
      draw();
    }
  }

  function tick({ input, covered }) {
    const here = covered.filter(({ index }) => chosen.has(index)).length;
    input.checked = here === covered.length;
    input.indeterminate = here > 0 && here < covered.length;
  }

  function draw() {
    boxes.forEach(tick);
    const those = all.filter(({ index }) => chosen.has(index));
    const whole = those.length === all.length;
    const size = bytes(those.reduce((sum, file) => sum + file.len, 0));
    const same = selectionOf(all, chosen) === selectionOf(all, numbersOf(all, select));
    const state = same && pinned ? "chosen and kept" : "chosen";
    say(words, `${those.length.toLocaleString("en")} of ${count(all.length, "file")} ${state}, ${size}`);
    say(button, whole ? "Download all files" : "Download only the chosen files");
    button.title = "The gateway fetches them and keeps them in its cache; the others come when somebody reads them";
    button.disabled = busy || those.length === 0 || (same && pinned);
  }

  function show(now, asked) {
    // What was asked before the gateway was told is no longer so.
    if (busy || asked < told || (now.select === select && now.pinned === pinned)) return;
    if (now.select !== select && !touched) chosen = numbersOf(all, now.select);
    [select, pinned] = [now.select, now.pinned];
    draw();
  }

  async function save() {
    const wanted = selectionOf(all, chosen);
    busy = true;
    say(fault, "");
    draw();
    try {
      await tell("PATCH", `items/${infohash}`, { select: wanted });
      select = wanted;
      if (!pinned) await tell("PUT", `items/${infohash}/pin`);
      pinned = true;
      announce("They are downloaded and kept");
    } catch (error) {
      say(fault, error.message);
    }
    touched = selectionOf(all, chosen) !== wanted;
    told = performance.now();
    busy = false;
    draw();
    changed();
  }
}
