// The button that pins a content: all of it is fetched, and stays in the cache until it is let go.
import { get, tell } from "./api.js";
import { announce, h, say } from "./dom.js";

/**
 * Makes the button for an infohash or a CID; `show` tells it whether that is pinned, what is neither hides it, and when
 * that was asked.
 */
export function keepButton(id) {
  const node = h("button", { type: "button", "aria-pressed": "false", hidden: true, onclick: toggle }, "Keep");
  let pressed = 0;
  return { node, show };

  function show(pinned, asked) {
    // What was asked before the button was pressed is no longer so.
    if (asked < pressed) return;
    node.hidden = typeof pinned !== "boolean";
    node.setAttribute("aria-pressed", String(pinned === true));
    say(node, pinned ? "Kept" : "Keep");
    node.title = pinned ? "The cache drops nothing of it; press to let it" : "Fetch all of it, and keep it in the cache until it is let go";
  }

  async function toggle() {
    const letGo = node.getAttribute("aria-pressed") === "true";
    node.disabled = true;
    try {
      await tell(letGo ? "DELETE" : "PUT", `items/${id}/pin`);
      pressed = performance.now();
      show(!letGo, pressed);
      announce(letGo ? "No longer kept" : "Kept");
    } catch (error) {
      announce(error.message);
    }
    node.disabled = false;
  }
}

/** Whether a content is pinned that is no item; null where that cannot be told. */
export async function isPinned(id, signal) {
  try {
    await get(`items/${id}/pin`, { signal });
    return true;
  } catch (error) {
    return error.kind === "no-such-item" ? false : null;
  }
}
