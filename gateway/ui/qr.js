// A file's URL as a QR code, for a phone or a TV: the gateway draws it, and a dialog of the browser's own shows it.
import { at, send } from "./api.js";
import { h } from "./dom.js";
import { share } from "./links.js";

/** What names this machine to itself alone. */
const LOOPBACK = /^(?:(?:.*\.)?localhost|127\.[\d.]+|\[::1\])$/;

/** A button that shows the code of a file's URL, which is signed when it is shown. */
export function qrButton(href, name) {
  return h("button", { type: "button", "aria-haspopup": "dialog", "aria-label": `QR code of ${name}`, title: "For a phone or a TV", onclick: () => show(href, name) }, "QR code");
}

async function show(href, name) {
  // Who may not sign links has this one: good for whoever may read the content anyhow.
  const { url, until } = await share(href).catch(() => ({ url: href, until: null }));
  const code = await picture(url, name).catch((error) => h("p", { class: "fault" }, `It cannot be drawn: ${error.message}`));
  // It was pressed twice.
  if (document.querySelector("dialog")) return;
  const dialog = h(
    "dialog",
    { "aria-labelledby": "qr-title" },
    h("h2", { id: "qr-title" }, name),
    code,
    h("p", { class: "hash" }, url),
    until && h("p", { class: "fine" }, `This plays without credentials until ${until}.`),
    LOOPBACK.test(new URL(url).hostname) && h("p", { class: "fine" }, "This URL is good on this machine alone. Open this page by the address that others reach, and its codes are good for them."),
    h("button", { type: "button", autofocus: true, onclick: () => dialog.close() }, "Close"),
  );
  // The browser keeps the focus in it, closes it with Escape, and then gives the focus back to the button.
  dialog.addEventListener("close", () => dialog.remove());
  addEventListener("hashchange", () => dialog.close(), { once: true });
  document.body.append(dialog);
  dialog.showModal();
}

/** The code as an element. It comes with a request that has the token, which an image's would not have. */
async function picture(url, name) {
  const answer = await send(at(`api/v1/qr?text=${encodeURIComponent(url)}`), { headers: { accept: "image/svg+xml" } });
  const drawn = document.adoptNode(new DOMParser().parseFromString(await answer.text(), "image/svg+xml").documentElement);
  drawn.setAttribute("role", "img");
  drawn.setAttribute("aria-label", `QR code of the URL of ${name}`);
  return drawn;
}
