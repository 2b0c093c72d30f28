// Copies a file's absolute URL; without it the link beside the button can be copied by hand.
for (const button of document.querySelectorAll("button[data-copy]")) {
  button.addEventListener("click", async () => {
    const url = new URL(button.dataset.copy, document.baseURI).href;
    try {
      await navigator.clipboard.writeText(url);
      button.textContent = "Copied";
    } catch {
      window.prompt("Link", url);
    }
  });
}
