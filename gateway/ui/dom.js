// The page's elements: made here, never from text that is read as HTML, since names come from strangers.

const SVG = "http://www.w3.org/2000/svg";

/** Makes an element. `on…` attributes are listeners; true is an attribute without a value, false and null are none. */
export function h(tag, attributes, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** The same for SVG. */
export function svg(tag, attributes, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === false || value === null || value === undefined) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(2).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** Sets an element's text, if it is another. Screen readers and selections are not disturbed by what stays. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/**
 * Keeps the children of `parent` in step with `list`: one for each key, which stays the same element while it is there,
 * so that focus stays too. `make(row)` gives `{ node, update(row) }`.
 */
export function keyed(parent, make) {
  const known = new Map();
  return (list, key) => {
    const gone = new Set(known.keys());
    list.forEach((row, at) => {
      const id = key(row);
      gone.delete(id);
      if (!known.has(id)) known.set(id, make(row));
      const { node, update } = known.get(id);
      update?.(row);
      if (parent.children[at] !== node) parent.insertBefore(node, parent.children[at] ?? null);
    });
    for (const id of gone) {
      known.get(id).node.remove();
      known.delete(id);
    }
  };
}

const voice = h("p", { role: "status", "aria-live": "polite", class: "unseen" });

/** Puts the place for announcements into the page. */
export const voiceOf = (body) => body.append(voice);

/** Tells those who listen rather than look. */
export function announce(text) {
  voice.textContent = "";
  requestAnimationFrame(() => (voice.textContent = text));
}

/**
 * A button that copies a text. `text` may be a function, which may take its time and give `{ text, note }` too: then the
 * note is shown in place of “Copied”.
 */
export function copyButton(label, text, more = {}) {
  const button = h("button", { type: "button", onclick: copy, ...more }, label);
  async function copy() {
    const found = typeof text === "function" ? await text() : text;
    const { text: value, note = "Copied" } = typeof found === "object" ? found : { text: String(found) };
    try {
      await navigator.clipboard.writeText(value);
      announce(note);
      button.textContent = note;
      setTimeout(() => (button.textContent = label), 2500);
    } catch {
      // Without a secure origin there is no clipboard; the text can still be copied by hand.
      prompt(note === "Copied" ? "Copy" : note, value);
    }
  }
  return button;
}

/** A bar of parts, `[{ name, value, class }]`, of a whole; `label` says the same in words. */
export function bar(label) {
  const node = h("div", { class: "bar", role: "img", "aria-label": label });
  return {
    node,
    update(parts, whole, words) {
      node.setAttribute("aria-label", words);
      node.title = words;
      parts = parts.filter(({ value }) => value > 0);
      while (node.children.length > parts.length) node.lastChild.remove();
      while (node.children.length < parts.length) node.append(h("span"));
      parts.forEach((part, at) => {
        const piece = node.children[at];
        piece.className = part.class;
        piece.style.inlineSize = `${whole > 0 ? Math.min(100, (100 * part.value) / whole) : 0}%`;
      });
    },
  };
}
