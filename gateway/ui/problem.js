// What went wrong, as people read it: which source failed, how, and what can be done.
import { at, Problem, useToken } from "./api.js";
import { h } from "./dom.js";
import { asked, became } from "./words.js";

/** What went wrong: in a sentence, by source, and what can be done. */
export function problem(error, again) {
  if (!(error instanceof Problem)) {
    console.error(error);
    error = new Problem({ title: "This page has failed", detail: String(error) });
  }
  const { title, detail, hints = [], attempts = [], stage, status, instance } = error.document;
  return h(
    "section",
    { class: "problem", role: "alert" },
    h("h1", {}, title ?? "Something went wrong"),
    detail && detail !== title && h("p", {}, detail),
    attempts.length > 0 && [h("h2", {}, "What was tried"), h("ul", { class: "attempts" }, attempts.map(attempt))],
    hints.map((hint) => h("p", { class: "hint" }, hint)),
    status === 401 ? tokenForm(again) : h("p", { class: "actions" }, again && h("button", { type: "button", class: "primary", onclick: again }, "Try again"), h("a", { class: "button", href: at("#/").href }, "Start page")),
    (status || stage) && h("p", { class: "fine" }, [status && `HTTP ${status}`, stage && `at ${stage}`, instance].filter(Boolean).join(" · ")),
  );
}

function attempt(one) {
  const { worked, text } = became(one);
  return h("li", { class: worked ? "good" : "bad" }, h("strong", {}, asked(one)), ` ${text}`);
}

function tokenForm(again) {
  const input = h("input", { type: "password", id: "token", autocomplete: "current-password", required: true });
  return h(
    "form",
    { class: "field", onsubmit: (event) => (event.preventDefault(), useToken(input.value), again?.()) },
    h("label", { for: "token" }, "Token"),
    input,
    h("button", { class: "primary" }, "Use it"),
  );
}
